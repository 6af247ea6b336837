"""The records of `goldens.json`, task by task: an item and an answer as JSON holds them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from service.tasks import (
    Aggregate,
    Answer,
    AnyItem,
    Classification,
    ClassifyItem,
    Content,
    DetectedObject,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    GenerateItem,
    Generation,
    Image,
    Inference,
    InferItem,
    Label,
    Mask,
    TaggedSpan,
    Tagging,
    TagItem,
    Text,
    TranslateItem,
    Translation,
    VectorForm,
)

ReadImage: TypeAlias = Callable[[str], Image]
"""Reads the image that a record names."""
_Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Golden:
    """An item and the answer that the original model, before its export, gave to it."""

    item: AnyItem
    answer: Answer


class Shape(BaseModel):
    """A JSON object without unknown keys; no value is converted."""

    # Only the records of the tasks that are loaded are built.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Record(Shape, ABC):
    """One golden."""

    @abstractmethod
    def to_golden(self, read_image: ReadImage) -> Golden:
        """Return the item and the answer."""


class _Content(Shape):
    text: str | None = None
    image: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("must hold either text or image")
        return self

    def content(self, read_image: ReadImage) -> Content:
        if self.image is not None:
            return read_image(self.image)
        return Text(self.text or "")


class _ClassifyItem(_Content):
    top_k: int | None = None
    text_pair: str | None = None

    @model_validator(mode="after")
    def _pairs_texts(self) -> Self:
        if self.text is None and self.text_pair is not None:
            raise ValueError("must not hold text_pair without text")
        return self


class _Label(Shape):
    label: str
    score: _Number


class _Classification(Shape):
    labels: list[_Label]


class ClassifyRecord(Record):
    """A golden of the task classify."""

    item: _ClassifyItem
    answer: _Classification

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        labels = tuple(Label(one.label, one.score) for one in self.answer.labels)
        asked = self.item
        item = ClassifyItem(asked.content(read_image), asked.top_k, asked.text_pair)
        return Golden(item, Classification(labels))


class _TagItem(Shape):
    text: str
    aggregate: Aggregate = "simple"


class _Span(Shape):
    label: str
    score: _Number
    start: int
    end: int


class _Tagging(Shape):
    spans: list[_Span]


class TagRecord(Record):
    """A golden of the task tag."""

    item: _TagItem
    answer: _Tagging

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        text = self.item.text
        spans = [
            TaggedSpan(one.label, one.score, one.start, one.end, text[one.start : one.end])
            for one in self.answer.spans
        ]
        # Of a long text, what the first window gives.
        return Golden(TagItem(text, self.item.aggregate, window=0), Tagging(tuple(spans)))


class _TranslateItem(Shape):
    text: str
    source: str | None = None
    target: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None


class _Translation(Shape):
    translation: str


class TranslateRecord(Record):
    """A golden of the task translate."""

    item: _TranslateItem
    answer: _Translation

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        asked = self.item
        item = TranslateItem(
            asked.text,
            asked.source,
            asked.target,
            asked.num_beams,
            asked.length_penalty,
            asked.max_new_tokens,
        )
        answer = Translation(
            self.answer.translation, asked.source or "", asked.target or "", truncated=False
        )
        return Golden(item, answer)


class _GenerateItem(Shape):
    text: str
    prefix: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None


class _Generation(Shape):
    text: str


class GenerateRecord(Record):
    """A golden of the task generate."""

    item: _GenerateItem
    answer: _Generation

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        item = GenerateItem(**self.item.model_dump())
        return Golden(item, Generation(self.answer.text, truncated=False))


class _DetectItem(Shape):
    image: str
    threshold: float | None = None
    iou: float | None = None
    max_detections: int | None = None


class _Object(Shape):
    label: str
    score: _Number
    box: tuple[_Number, _Number, _Number, _Number]
    mask: str | None = None
    """Counts of COCO's compressed run-length encoding."""
    keypoints: tuple[tuple[_Number, ...], ...] | None = None
    rotated_box: tuple[_Number, _Number, _Number, _Number, _Number] | None = None

    def found(self) -> DetectedObject:
        mask = None if self.mask is None else Mask(rle=self.mask)
        return DetectedObject(
            self.label, self.score, self.box, mask, self.keypoints, self.rotated_box
        )


class _Detections(Shape):
    objects: list[_Object]
    width: int = 0
    height: int = 0


class DetectRecord(Record):
    """A golden of the task detect."""

    item: _DetectItem
    answer: _Detections

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        asked, found = self.item, self.answer
        objects = tuple(one.found() for one in found.objects)
        item = DetectItem(read_image(asked.image), asked.threshold, asked.iou, asked.max_detections)
        return Golden(item, Detections(objects, found.width, found.height))


class _EmbedItem(_Content):
    prompt_name: str | None = None


class _Embedding(Shape):
    embedding: Annotated[list[_Number], Field(min_length=1)]
    indices: list[Annotated[int, Field(ge=0)]] | None = None


class EmbedRecord(Record):
    """A golden of the task embed."""

    item: _EmbedItem
    answer: _Embedding

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        vector, indices = np.asarray(self.answer.embedding, np.float32), self.answer.indices
        places = None if indices is None else np.asarray(indices, np.int32)
        form: VectorForm = "vector" if indices is None else "sparse"
        item = EmbedItem(self.item.content(read_image), self.item.prompt_name, form=form)
        return Golden(item, Embedding(vector, places))


class _Tensor(Shape):
    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]
    data: list[_Number | bool | str]
    """Flat, in row-major order; strings for the type "string"."""

    def array(self) -> NDArray[Any]:
        if self.dtype == "string":
            return np.array([str(one).encode() for one in self.data], object).reshape(self.shape)
        return np.array(self.data).astype(self.dtype).reshape(self.shape)


class _Tensors(Shape):
    tensors: Annotated[dict[str, _Tensor], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        self.arrays()
        return self

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        try:
            return {name: one.array() for name, one in self.tensors.items()}
        except TypeError as error:
            raise ValueError(str(error)) from None


class InferRecord(Record):
    """A golden of the task infer."""

    item: _Tensors
    answer: _Tensors

    @override
    def to_golden(self, read_image: ReadImage) -> Golden:
        return Golden(InferItem(self.item.arrays()), Inference(self.answer.arrays()))
