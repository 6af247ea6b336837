"""POST /v1/classify: texts or images to labels."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.content import (
    Images,
    TaskRequest,
    TextsOrPairs,
    as_image,
    as_text,
    check_count,
    each,
    read_request,
)
from service.api.http_request import HttpRequest
from service.api.replies import Reply, task_reply
from service.api.schemas import given
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import ApiLimits
from service.tasks import Classification, ClassifyItem, Task

_PAIR = {"text", "text_pair"}


class ClassifyRequest(TaskRequest):
    """Texts, pairs of texts, or images to label. Texts and pairs may be mixed."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [given("text", "image"), given("image", "text")]}
    )

    text: TextsOrPairs | None = None
    image: Images | None = None
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many labels to return, best first. The default is all."
    )

    def items(self, limits: ApiLimits) -> Sequence[ClassifyItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        if (self.text is None) == (self.image is None):
            raise InvalidInputError("give either text or image")
        if self.text is not None:
            check_count(len(self.text), limits)
            return each(self.text, lambda text: self._of_text(text, limits))
        images = self.image or []
        check_count(len(images), limits)
        return each(images, lambda image: ClassifyItem(as_image(image, limits), self.top_k))

    def _of_text(self, value: object, limits: ApiLimits) -> ClassifyItem:
        if not isinstance(value, dict):
            return ClassifyItem(as_text(value, limits), self.top_k)
        if value.keys() != _PAIR:
            raise InvalidInputError("a pair must have text and text_pair, and nothing else")
        pair = as_text(value["text_pair"], limits, "text_pair").text
        return ClassifyItem(as_text(value["text"], limits), self.top_k, pair)


class ScoredLabel(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class ClassifyResult(BaseModel):
    """Labels of one item, best first."""

    labels: list[ScoredLabel]


class ClassifyResponse(BaseModel):
    """One result for each item, in order."""

    model: str
    version: int
    results: list[ClassifyResult]


async def classify(request: HttpRequest) -> Reply:
    """Label texts (such as news topics) or images (such as handwritten digits)."""
    body = await read_request(request, ClassifyRequest)
    items = body.items(request.context.limits)
    return await task_reply(request, Task.CLASSIFY, body, items, encode_classification)


def encode_classification(answer: Classification) -> Mapping[str, Any]:
    """Return the labels as a JSON object."""
    return {"labels": [{"label": label.name, "score": label.score} for label in answer.labels]}
