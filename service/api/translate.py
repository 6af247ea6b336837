"""POST /v1/translate: texts to texts in another language."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.api.answering import answer
from service.api.call import Call
from service.api.content import TaskRequest, Texts, as_text, check_count, each, read_request
from service.api.limits import ApiLimits
from service.api.reply import Reply
from service.errors import ServiceError
from service.tasks import Task, TranslateItem, Translation

Language = Annotated[str, Field(min_length=2, max_length=35)]


class TranslateRequest(TaskRequest):
    """Texts to translate. What is left out is the model's own default."""

    text: Texts
    source: Language | None = Field(None, description="Language of the text, e.g. zh.")
    target: Language | None = Field(None, description="Language to translate to, e.g. en.")
    num_beams: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="Hypotheses kept at each step; 1 is greedy."
    )
    length_penalty: Annotated[float, Field(ge=-5, le=5)] | None = Field(
        None, description="Above 0 favours longer translations, below 0 shorter ones."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Where a translation is cut at the latest."
    )

    def items(self, limits: ApiLimits) -> Sequence[TranslateItem | ServiceError]:
        """Return the items asked for. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.text), limits)
        return each(self.text, lambda text: self._item(as_text(text, limits).text))

    def _item(self, text: str) -> TranslateItem:
        return TranslateItem(
            text,
            self.source,
            self.target,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens,
        )


class TranslateResult(BaseModel):
    """One text in the target language."""

    translation: str
    source: str
    target: str
    truncated: bool = Field(description="Whether the text or its translation was cut.")


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
    return {
        "translation": answer.text,
        "source": answer.source,
        "target": answer.target,
        "truncated": answer.truncated,
    }
