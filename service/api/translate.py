"""POST /v1/translate: texts to texts in another language."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.responses import Response

from service.api.content import TaskRequest, Texts, as_text, check_count, each, read_request
from service.api.http_request import HttpRequest
from service.api.openapi import ProblemBody, not_both
from service.api.replies import task_reply
from service.api.streaming import LINES, accepted_form
from service.api.translation_stream import StreamOptions, stream_reply
from service.cache.responses import CacheOutcome
from service.errors import InvalidInputError, LimitExceededError, ServiceError
from service.requests.admission import ApiLimits
from service.requests.documents import Documents, SplitBy
from service.requests.segment_stream import DocumentLimits
from service.requests.translation_stream import Detail
from service.tasks import FinishReason, LiteralKind, Task, TranslateItem, Translation

Language = Annotated[str, Field(min_length=2, max_length=35)]
Term = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
_TERM = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"\S"}
_MOST_TERMS = 100
Glossary = Annotated[
    dict[Term, Term],
    Field(max_length=_MOST_TERMS),
    # Pydantic's own schema lets any name pass that the pattern does not match.
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": _TERM,
            "additionalProperties": _TERM,
            "maxProperties": _MOST_TERMS,
        }
    ),
]


class TranslateRequest(TaskRequest):
    """Texts to translate. What is left out is the model's own default."""

    model_config = ConfigDict(json_schema_extra=not_both("max_length", "max_new_tokens"))

    text: Texts
    source: Language | None = Field(None, description="Language of the text, e.g. zh.")
    target: Language | None = Field(None, description="Language to translate to, e.g. en.")
    num_beams: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="Hypotheses kept at each step; 1 is greedy."
    )
    length_penalty: Annotated[float, Field(ge=-5, le=5)] | None = Field(
        None, description="Above 0 favours longer translations, below 0 shorter ones."
    )
    max_length: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None,
        description="Most tokens of a translation, its end counted; never more than the model's.",
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Another name of max_length."
    )
    alternatives: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None,
        description="How many translations of each text to return, with scores, the best first; "
        "at most num_beams.",
    )
    glossary: Glossary | None = Field(
        None,
        description="Words of the text and what must stand for each in its translation. The "
        "result says of each whether it does.",
    )
    protect: Annotated[list[LiteralKind], Field(max_length=6)] | None = Field(
        None,
        description="What must stay as it is: urls, emails, numbers, emoji, placeholders ({name}, "
        "%s, ${x}), code (in backticks). Listed in the result like terms of a glossary.",
    )
    split: SplitBy = Field(
        "auto",
        description="auto translates line by line, and a line that is longer than the model reads "
        "sentence by sentence; sentences does so with every line; none takes the text as it is, "
        "and what the model does not read of it is lost (truncated says so).",
    )
    stream: Detail | None = Field(
        None,
        description="Tell each line or sentence as it is done (segments), or also the tokens of "
        "the one whose turn it is as they come. In server-sent events if Accept names them, else "
        "in lines of JSON.",
    )

    def items(self, limits: ApiLimits) -> Sequence[TranslateItem | ServiceError]:
        """Return the items asked for. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.text), limits)
        most = limits.max_document_characters
        if (length := sum(len(text) for text in self.text if isinstance(text, str))) > most:
            raise LimitExceededError(f"{length} characters are over the limit of {most}")
        if None not in (self.max_length, self.max_new_tokens):
            raise InvalidInputError("max_length and max_new_tokens are the same: give one of them")
        in_pieces = None if self.split == "none" else most
        return each(self.text, lambda text: self._item(as_text(text, limits, most=in_pieces).text))

    def _item(self, text: str) -> TranslateItem:
        return TranslateItem(
            text,
            self.source,
            self.target,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens if self.max_length is None else self.max_length,
            self.alternatives or 0,
            tuple((self.glossary or {}).items()),
            tuple(self.protect or ()),
        )


class TranslationAlternative(BaseModel):
    """One of several translations of a text."""

    translation: str
    score: float | None = Field(
        description="Log-probability / length ** length_penalty; null from greedy search."
    )
    finish_reason: FinishReason


class GlossaryTerm(BaseModel):
    """A word of the text that had to be kept."""

    source: str
    target: str
    kept: bool = Field(
        description="Whether the target stands in the translation as often as the source does in "
        "the text."
    )


class TranslateResult(BaseModel):
    """One text in the target language."""

    translation: str
    source: str
    target: str
    truncated: bool = Field(description="Whether the text or its translation was cut.")
    finish_reason: FinishReason = Field(
        description="Why nothing more was written: stop (the model ended the translation), length "
        "(the limit of tokens) or repetition (it began to say the same over and over)."
    )
    alternatives: list[TranslationAlternative] | None = Field(
        None, description="If asked for: the best translations, this one first."
    )
    glossary: list[GlossaryTerm] | None = Field(
        None, description="The terms that stand in the text, if any do."
    )


class TranslateResponse(BaseModel):
    """One result an item, in order."""

    model: str
    version: int
    results: list[TranslateResult]


async def translate(request: HttpRequest) -> Response:
    """Translate texts."""
    body = await read_request(request, TranslateRequest)
    # A client that disconnects frees rows of the batch at once.
    request.watch_after = 0.0
    limits = request.context.limits
    items = body.items(limits)
    form = accepted_form(request)
    patience = limits.request_timeout_seconds
    documents = Documents(DocumentLimits(limits.max_segments, patience), body.split)
    if form is None and body.stream is None:
        ask = documents.answer
        return await task_reply(request, Task.TRANSLATE, body, items, _encode, ask=ask)
    options = StreamOptions(body.stream or "segments", form or LINES, _encode)
    return await stream_reply(request, body, items, documents, options)


def _encode(answer: Translation) -> Mapping[str, Any]:
    said = {
        "translation": answer.text,
        "source": answer.source,
        "target": answer.target,
        "truncated": answer.truncated,
        "finish_reason": answer.finish_reason,
    }
    if answer.alternatives:
        said["alternatives"] = [
            {"translation": one.text, "score": one.score, "finish_reason": one.finish_reason}
            for one in answer.alternatives
        ]
    if answer.glossary:
        said["glossary"] = [
            {"source": term.source, "target": term.target, "kept": term.is_kept}
            for term in answer.glossary
        ]
    return said


class TranslationProgress(BaseModel):
    """How far a stream is."""

    done: int = Field(description="Pieces that are translated, or failed.")
    total: int = Field(description="Pieces of all texts.")


class TranslationStart(TranslationProgress):
    """The first event."""

    event: Literal["start"]
    model: str
    version: int
    items: int = Field(description="Texts of the request.")


class TranslationPiece(TranslationProgress):
    """Which piece an event is of, and what stands round it in the translation."""

    item: int = Field(description="Which text, from 0.")
    index: int = Field(description="Which piece of it, from 0.")
    start: int = Field(description="Where it begins in its text, in characters (code points).")
    end: int
    before: str = Field(description="Space, line ends and the like, before its translation.")
    after: str = Field(description="The same behind it; empty but for the last piece of a text.")


class TranslationSegment(TranslateResult, TranslationPiece):
    """A piece is translated. `before`, `translation`, `after` of all are the translated text."""

    event: Literal["segment"]
    cache: CacheOutcome


class TranslationTokens(BaseModel):
    """The piece whose turn it is has got longer."""

    event: Literal["tokens"]
    item: int
    index: int
    text: str = Field(
        description="All of it so far. With more than one beam the best beginning, which a later "
        "event may replace."
    )


class TranslationHeartbeat(TranslationProgress):
    """Nothing has happened for a while; the connection is still of use."""

    event: Literal["progress"]


class TranslationError(ProblemBody):
    """A problem: of a piece, with its place; of a text; or of all that is left, with neither."""

    event: Literal["error"]
    done: int
    total: int
    item: int | None = None
    index: int | None = None
    start: int | None = None
    end: int | None = None
    before: str | None = None
    after: str | None = None


class TranslationEnd(TranslationProgress):
    """The last event."""

    event: Literal["end"]
    failed: int
    truncated: int = Field(description="Pieces of which something was cut.")
    cache: dict[CacheOutcome, int] = Field(description="Pieces by where they came from.")
    seconds: float = Field(description="From the arrival of the request.")
    longest: dict[str, float] = Field(
        description="Seconds of each step, of the piece that took longest in it."
    )


TRANSLATION_EVENTS: tuple[type[BaseModel], ...] = (
    TranslationStart,
    TranslationSegment,
    TranslationTokens,
    TranslationHeartbeat,
    TranslationError,
    TranslationEnd,
)
