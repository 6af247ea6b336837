"""POST /v1/translate: texts to texts in another language."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.api.answering import answer
from service.api.call import Call
from service.api.content import TaskRequest, Texts, as_text, check_count, each, read_request
from service.api.limits import ApiLimits
from service.api.reply import Reply
from service.errors import InvalidInputError, ServiceError
from service.tasks import FinishReason, Task, TranslateItem, Translation

Language = Annotated[str, Field(min_length=2, max_length=35)]


class TranslateRequest(TaskRequest):
    """Texts to translate. What is left out is the model's own default."""

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

    def items(self, limits: ApiLimits) -> Sequence[TranslateItem | ServiceError]:
        """Return the items asked for. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.text), limits)
        if None not in (self.max_length, self.max_new_tokens):
            raise InvalidInputError("max_length and max_new_tokens are the same: give one of them")
        return each(self.text, lambda text: self._item(as_text(text, limits).text))

    def _item(self, text: str) -> TranslateItem:
        return TranslateItem(
            text,
            self.source,
            self.target,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens if self.max_length is None else self.max_length,
            self.alternatives or 0,
        )


class TranslationAlternative(BaseModel):
    """One of several translations of a text."""

    translation: str
    score: float | None = Field(
        description="Log-probability / length ** length_penalty; null from greedy search."
    )
    finish_reason: FinishReason


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


class TranslateResponse(BaseModel):
    """One result an item, in order."""

    model: str
    version: int
    results: list[TranslateResult]


async def translate(call: Call) -> Reply:
    """Translate texts."""
    request = await read_request(call, TranslateRequest)
    items = request.items(call.context.limits)
    return await answer(call, Task.TRANSLATE, request, items, _encode)


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
    return said
