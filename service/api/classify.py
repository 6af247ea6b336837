"""POST /v1/classify: texts or images to labels, or texts to labelled spans."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

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
from service.api.replies import Reply, answers_reply, task_reply
from service.api.schemas import absent, given
from service.api.tag import AggregateField, StrideField, TagRequest, TagResult, encode_tagging
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import MOST_LABELS, ApiLimits
from service.requests.request import Selection
from service.requests.zero_shot import FEWEST_LABELS, GivenLabels, classify_by_labels
from service.tasks import Classification, ClassifyItem, Task

_PAIR = {"text", "text_pair"}

Labels: TypeAlias = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(
        min_length=FEWEST_LABELS, max_length=MOST_LABELS, json_schema_extra={"uniqueItems": True}
    ),
]


class ClassifyRequest(TaskRequest):
    """Texts, pairs of texts, or images to label. Texts and pairs may be mixed."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [given("text", "image"), given("image", "text")],
            "anyOf": [
                given("labels", "aggregate", "stride"),
                absent("hypothesis_template", "multi_label", "aggregate", "stride"),
                absent("hypothesis_template", "multi_label", "image", "top_k", "labels"),
            ],
        }
    )

    text: TextsOrPairs | None = None
    image: Images | None = None
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many labels to return, best first. The default is all."
    )

    labels: Labels | None = Field(
        None,
        description="Classify by these labels (zero-shot), with an embedder or a model of natural "
        "language inference; else by the labels that the model was trained on.",
    )
    hypothesis_template: (
        Annotated[str, Field(json_schema_extra={"pattern": r"\{\}"}, max_length=1000)] | None
    ) = Field(
        None,
        description="Text to put around each label, which stands for `{}`. The default is the "
        "model's own.",
    )
    multi_label: bool | None = Field(
        None,
        description="Whether each label is scored by itself, because several can be right. The "
        "default is no, except for models that were trained so.",
    )

    aggregate: AggregateField = None
    stride: StrideField = None

    def tagging(self) -> TagRequest:
        """Return the request for labelled spans. Raises InvalidInputError."""
        others = (self.image, self.top_k, self.labels, self.hypothesis_template, self.multi_label)
        if any(other is not None for other in others):
            raise InvalidInputError(
                "a token classifier takes text, aggregate and stride: no image, labels or top_k"
            )
        if self.text is None:
            raise InvalidInputError("give text")
        return TagRequest(
            model=self.model,
            version=self.version,
            text=self.text,
            aggregate=self.aggregate,
            stride=self.stride,
        )

    def given_labels(self, limits: ApiLimits) -> GivenLabels | None:
        """Return what to choose among; None for the model's own labels.

        Raises:
            InvalidInputError, LimitExceededError: a label or the template is invalid.
        """
        if self.labels is None:
            if self.hypothesis_template is not None or self.multi_label is not None:
                raise InvalidInputError(
                    "hypothesis_template and multi_label are for labels, and there are none"
                )
            return None
        for place, label in enumerate(self.labels):
            as_text(label, limits, f"labels[{place}]")
        return GivenLabels(tuple(self.labels), self.hypothesis_template, self.multi_label)

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
    """One result for each item, in order; of a token classifier, spans."""

    model: str
    version: int
    results: list[ClassifyResult] | list[TagResult]


async def classify(request: HttpRequest) -> Reply:
    """Label texts (such as news topics) or images (such as handwritten digits).

    With `labels`, a model that was not trained on them chooses among them. With `aggregate`, or the
    name of a token classifier, the answers are labelled spans, such as names.
    """
    body = await read_request(request, ClassifyRequest)
    if body.aggregate is not None or body.stride is not None or _names_tagger(request, body):
        asked = body.tagging()
        spans = asked.items(request.context.limits)
        return await task_reply(request, Task.TAG, asked, spans, encode_tagging)
    limits = request.context.limits
    labels, items = body.given_labels(limits), body.items(limits)
    if labels is None:
        return await task_reply(request, Task.CLASSIFY, body, items, encode_classification)
    work = classify_by_labels(
        request.context.registry,
        request.without_transport(),
        Selection(body.model, body.version),
        items,
        labels,
    )
    return answers_reply(request, await request.while_connected(work), encode_classification)


def _names_tagger(request: HttpRequest, body: ClassifyRequest) -> bool:
    name = body.model
    return name is not None and request.context.registry.task_of(name) is Task.TAG


def encode_classification(answer: Classification) -> Mapping[str, Any]:
    """Return the labels as a JSON object."""
    return {"labels": [{"label": label.name, "score": label.score} for label in answer.labels]}
