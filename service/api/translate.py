"""POST /v1/translate: texts to texts in another language."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.responses import Response

from service.api.content import TaskRequest, Texts, as_text, check_count, each, read_request
from service.api.http_request import HttpRequest
from service.api.openapi import ProblemBody
from service.api.replies import task_reply
from service.api.schemas import not_both
from service.api.streaming import LINES, accepted_form
from service.api.translation_stream import StreamOptions, stream_reply
from service.cache.responses import CacheOutcome
from service.errors import InvalidInputError, LimitExceededError, ServiceError
from service.requests.admission import ApiLimits
from service.requests.documents import Documents, SplitBy
from service.requests.html_loading import load_html
from service.requests.languages import DetectedTranslation
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
    # In Pydantic's own schema, names that do not match the pattern are valid.
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
    """Texts to translate. The model has defaults for what is left out."""

    model_config = ConfigDict(json_schema_extra=not_both("max_length", "max_new_tokens"))

    text: Texts
    format: Literal["text", "html"] = Field(
        "text",
        description="html translates the texts of an HTML document or a part of one. Tags, "
        "attributes, comments, code, pre and elements with translate=no stay as they are.",
    )
    source: Language | None = Field(
        None, description="Language of the text, e.g. zh; auto detects it."
    )
    target: Language | None = Field(None, description="Language to translate to, e.g. en.")
    num_beams: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="Hypotheses kept at each step; 1 is greedy."
    )
    length_penalty: Annotated[float, Field(ge=-5, le=5)] | None = Field(
        None, description="Above 0 favours longer translations, below 0 shorter ones."
    )
    max_length: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None,
        description="Most tokens of a translation, including its end token.",
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Another name of max_length."
    )
    alternatives: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None,
        description="How many translations of each text to return, best first, with scores; "
        "at most num_beams.",
    )
    glossary: Glossary | None = Field(
        None,
        description="Words of the text and their required translations. The result reports "
        "whether the translation contains each of them.",
    )
    protect: Annotated[list[LiteralKind], Field(max_length=6)] | None = Field(
        None,
        description="What to keep unchanged: urls, emails, numbers, emoji, placeholders ({name}, "
        "%s, ${x}), code (in backticks). The result reports it like terms of a glossary.",
    )
    split: SplitBy = Field(
        "auto",
        description="auto translates line by line, and lines longer than the input of the model "
        "sentence by sentence; sentences translates every line sentence by sentence; none "
        "translates the text as a whole, and truncates it to the input of the model.",
    )
    stream: Detail | None = Field(
        None,
        description="Stream each line or sentence when it is translated (segments), and also the "
        "tokens of the first unfinished one (tokens): as server-sent events if Accept names "
        "them, else as lines of JSON.",
    )

    def items(self, limits: ApiLimits) -> Sequence[TranslateItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
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
    """A term of the glossary, or a protected part of the text."""

    source: str
    target: str
    kept: bool = Field(
        description="Whether the translation contains the target as often as the text contains the "
        "source."
    )


class DetectedLanguage(BaseModel):
    """The language that a text was found to be in."""

    language: str
    confidence: float = Field(description="From 0 to 1.")


class TranslateResult(BaseModel):
    """One text in the target language."""

    translation: str
    source: str
    target: str
    truncated: bool = Field(description="Whether the text or its translation was truncated.")
    finish_reason: FinishReason = Field(
        description="Why the translation ended: stop (the model ended it), length (the limit of "
        "tokens) or repetition (the model repeated itself)."
    )
    alternatives: list[TranslationAlternative] | None = Field(
        None, description="If requested: the best translations, this one first."
    )
    glossary: list[GlossaryTerm] | None = Field(
        None, description="The terms that the text contains, if any."
    )
    detected: DetectedLanguage | None = Field(
        None, description="If the source was auto: which language was detected."
    )


class TranslateResponse(BaseModel):
    """One result for each item, in order."""

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
    kind = await load_html() if body.format == "html" else Documents
    documents = kind(DocumentLimits(limits.max_segments, patience), body.split)
    if form is None and body.stream is None:
        ask = documents.answer
        return await task_reply(request, Task.TRANSLATE, body, items, encode_translation, ask=ask)
    if body.format == "html":
        raise InvalidInputError("HTML is not streamed: leave out stream")
    options = StreamOptions(body.stream or "segments", form or LINES, encode_translation)
    return await stream_reply(request, body, items, documents, options)


def encode_translation(answer: Translation) -> Mapping[str, Any]:
    """Return the translation as a JSON object."""
    members = {
        "translation": answer.text,
        "source": answer.source,
        "target": answer.target,
        "truncated": answer.truncated,
        "finish_reason": answer.finish_reason,
    }
    if answer.alternatives:
        members["alternatives"] = [
            {"translation": one.text, "score": one.score, "finish_reason": one.finish_reason}
            for one in answer.alternatives
        ]
    if answer.glossary:
        members["glossary"] = [
            {"source": term.source, "target": term.target, "kept": term.is_kept}
            for term in answer.glossary
        ]
    if isinstance(answer, DetectedTranslation) and answer.detection is not None:
        members["detected"] = asdict(answer.detection)
    return members


class TranslationProgress(BaseModel):
    """Progress of a stream."""

    done: int = Field(description="Segments that are translated, or failed.")
    total: int = Field(description="Segments of all texts.")


class TranslationStart(TranslationProgress):
    """The first event."""

    event: Literal["start"]
    model: str
    version: int
    items: int = Field(description="Number of texts in the request.")


class TranslationPiece(TranslationProgress):
    """The segment of an event, and the text around its translation."""

    item: int = Field(description="Index of the text, from 0.")
    index: int = Field(description="Index of the segment in its text, from 0.")
    start: int = Field(description="Begin of the segment in its text, in characters (code points).")
    end: int
    before: str = Field(description="White space and line ends before its translation.")
    after: str = Field(
        description="The same after it; empty except for the last segment of a text."
    )


class TranslationSegment(TranslateResult, TranslationPiece):
    """A segment is translated. All `before`, `translation` and `after` form the translated text."""

    event: Literal["segment"]
    cache: CacheOutcome


class TranslationTokens(BaseModel):
    """The translation of the first unfinished segment has got longer."""

    event: Literal["tokens"]
    item: int
    index: int
    text: str = Field(
        description="All of it so far. With several beams it is the best hypothesis, which a later "
        "event may replace."
    )


class TranslationHeartbeat(TranslationProgress):
    """Sent if there was no other event for a while."""

    event: Literal["progress"]


class TranslationError(ProblemBody):
    """An error of a segment (`item` and `index`), of a text (`item`), or of the whole stream."""

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
    truncated: int = Field(description="Segments that were truncated.")
    cache: dict[CacheOutcome, int] = Field(
        description="Segments by where their translation came from."
    )
    seconds: float = Field(description="Seconds since the arrival of the request.")
    longest: dict[str, float] = Field(description="Longest seconds of each step over all segments.")


TRANSLATION_EVENTS: tuple[type[BaseModel], ...] = (
    TranslationStart,
    TranslationSegment,
    TranslationTokens,
    TranslationHeartbeat,
    TranslationError,
    TranslationEnd,
)
