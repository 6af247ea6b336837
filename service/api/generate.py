"""POST /v1/generate: texts to texts that a model writes from them, such as summaries."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from service.api.content import TaskRequest, Texts, as_text, check_count, each, read_request
from service.api.http_request import HttpRequest
from service.api.replies import task_reply
from service.api.schemas import not_both
from service.api.streaming import LINES, accepted_form
from service.api.translate import (
    TranslationEnd,
    TranslationError,
    TranslationHeartbeat,
    TranslationPiece,
    TranslationStart,
    TranslationTokens,
)
from service.api.translation_stream import StreamOptions, stream_reply
from service.cache.responses import CacheOutcome
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import ApiLimits
from service.requests.segment_stream import DocumentLimits
from service.requests.translation_stream import WholeTexts
from service.tasks import FinishReason, GenerateItem, Generation, Task

_Tokens = Annotated[int, Field(ge=1, le=1024)]


class GenerateRequest(TaskRequest):
    """Texts to write others from. The model has defaults for what is left out."""

    model_config = ConfigDict(json_schema_extra=not_both("max_length", "max_new_tokens"))

    text: Texts
    prefix: Annotated[str, Field(max_length=1000)] | None = Field(
        None,
        description='What to put before each text, such as "summarize: ". The default is the '
        "model's; an empty text puts nothing.",
    )
    num_beams: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="Hypotheses kept at each step; 1 is greedy."
    )
    length_penalty: Annotated[float, Field(ge=-5, le=5)] | None = Field(
        None, description="Above 0 favours longer texts, below 0 shorter ones."
    )
    max_length: _Tokens | None = Field(
        None, description="Most tokens to write, including the end token."
    )
    max_new_tokens: _Tokens | None = Field(None, description="Another name of max_length.")
    min_new_tokens: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        None, description="Least tokens to write before the end token."
    )
    alternatives: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None,
        description="How many texts to return for each, best first, with scores; at most "
        "num_beams.",
    )
    stream: Literal["texts", "tokens"] | None = Field(
        None,
        description="Stream each text when it is written (texts), and also the tokens of the first "
        "unfinished one (tokens): as server-sent events if Accept names them, else as lines of "
        "JSON.",
    )

    def items(self, limits: ApiLimits) -> Sequence[GenerateItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.text), limits)
        if None not in (self.max_length, self.max_new_tokens):
            raise InvalidInputError("max_length and max_new_tokens are the same: give one of them")
        return each(self.text, lambda text: self._item(as_text(text, limits).text))

    def _item(self, text: str) -> GenerateItem:
        return GenerateItem(
            text,
            self.prefix,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens if self.max_length is None else self.max_length,
            self.min_new_tokens,
            self.alternatives or 0,
        )


class GenerationAlternative(BaseModel):
    """One of several texts."""

    text: str
    score: float | None = Field(
        description="Log-probability / length ** length_penalty; null from greedy search."
    )
    finish_reason: FinishReason


class GenerateResult(BaseModel):
    """A text that was written."""

    text: str
    truncated: bool = Field(description="Whether the input or the text was truncated.")
    finish_reason: FinishReason = Field(
        description="Why the text ended: stop (the model ended it), length (the limit of tokens) "
        "or repetition (the model repeated itself)."
    )
    alternatives: list[GenerationAlternative] | None = Field(
        None, description="If requested: the best texts, this one first."
    )


class GenerateResponse(BaseModel):
    """One result for each item, in order."""

    model: str
    version: int
    results: list[GenerateResult]


async def generate(request: HttpRequest) -> Response:
    """Write texts from others: summaries, or answers to prompts, by an encoder-decoder model."""
    body = await read_request(request, GenerateRequest)
    # A client that disconnects frees rows of the batch at once.
    request.watch_after = 0.0
    limits = request.context.limits
    items, form = body.items(limits), accepted_form(request)
    if form is None and body.stream is None:
        return await task_reply(request, Task.GENERATE, body, items, encode_generation)
    detail: Literal["segments", "tokens"] = "tokens" if body.stream == "tokens" else "segments"
    options = StreamOptions(detail, form or LINES, encode_generation)
    texts = WholeTexts(DocumentLimits(limits.max_segments, limits.request_timeout_seconds))
    return await stream_reply(request, body, items, texts, options)


def encode_generation(answer: Generation) -> Mapping[str, Any]:
    """Return the text as a JSON object."""
    members: dict[str, Any] = {
        "text": answer.text,
        "truncated": answer.truncated,
        "finish_reason": answer.finish_reason,
    }
    if answer.alternatives:
        members["alternatives"] = [
            {"text": one.text, "score": one.score, "finish_reason": one.finish_reason}
            for one in answer.alternatives
        ]
    return members


class GenerationSegment(GenerateResult, TranslationPiece):
    """A text is written. Its `index` is 0, and `before` and `after` are empty."""

    event: Literal["segment"]
    cache: CacheOutcome


GENERATION_EVENTS: tuple[type[BaseModel], ...] = (
    TranslationStart,
    GenerationSegment,
    TranslationTokens,
    TranslationHeartbeat,
    TranslationError,
    TranslationEnd,
)
