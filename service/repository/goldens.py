"""Recorded items with the answers of the original model: what a loaded version must repeat."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import ModelLoadError
from service.repository.paths import file_inside
from service.repository.tables import sentences
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
    Task,
    Text,
    TranslateItem,
    Translation,
    VectorForm,
)

GOLDENS_NAME = "goldens.json"
GOLDENS_FOLDER = "goldens"

_ReadImage: TypeAlias = Callable[[str], Image]
_Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Golden:
    """An item and the answer that the original model, before its export, gave to it."""

    item: AnyItem
    answer: Answer


def read_goldens(folder: Path, task: Task, root: Path | None = None) -> tuple[Golden, ...]:
    """Return the goldens of a version; none if it has no `goldens.json`.

    Args:
        folder: the version's folder.
        task: what the version does.
        root: what no link may lead out of; None means the folder.

    Raises:
        ModelLoadError: the file, or an image that it names, cannot be read or is not of the
            task. The message names the file, the place in it and the reason.
    """
    path = folder / GOLDENS_NAME
    where = "/".join(path.parts[-3:])
    if not (path.exists() or path.is_symlink()):
        return ()
    boundary = folder if root is None else root
    file_inside(GOLDENS_NAME, folder, boundary, where.rpartition("/")[0])

    def read_image(name: str) -> Image:
        return Image(file_inside(name, folder, boundary, where).read_bytes())

    try:
        file = _FILES[task].model_validate_json(path.read_bytes())
        return tuple(record.to_golden(read_image) for record in file.items)
    except ValidationError as error:
        raise ModelLoadError(f"{where}: {'; '.join(sentences(error))}") from None
    except OSError as error:
        raise ModelLoadError(f"{where} cannot be read: {error.strerror}") from None


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Record(_Shape, ABC):
    @abstractmethod
    def to_golden(self, read_image: _ReadImage) -> Golden: ...


class _Content(_Shape):
    text: str | None = None
    image: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("must hold either text or image")
        return self

    def content(self, read_image: _ReadImage) -> Content:
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


class _Label(_Shape):
    label: str
    score: _Number


class _Classification(_Shape):
    labels: list[_Label]


class _ClassifyRecord(_Record):
    item: _ClassifyItem
    answer: _Classification

    def to_golden(self, read_image: _ReadImage) -> Golden:
        labels = tuple(Label(one.label, one.score) for one in self.answer.labels)
        asked = self.item
        item = ClassifyItem(asked.content(read_image), asked.top_k, asked.text_pair)
        return Golden(item, Classification(labels))


class _TagItem(_Shape):
    text: str
    aggregate: Aggregate = "simple"


class _Span(_Shape):
    label: str
    score: _Number
    start: int
    end: int


class _Tagging(_Shape):
    spans: list[_Span]


class _TagRecord(_Record):
    item: _TagItem
    answer: _Tagging

    def to_golden(self, read_image: _ReadImage) -> Golden:
        text = self.item.text
        spans = [
            TaggedSpan(one.label, one.score, one.start, one.end, text[one.start : one.end])
            for one in self.answer.spans
        ]
        # Of a long text, what the first window gives.
        return Golden(TagItem(text, self.item.aggregate, window=0), Tagging(tuple(spans)))


class _TranslateItem(_Shape):
    text: str
    source: str | None = None
    target: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None


class _Translation(_Shape):
    translation: str


class _TranslateRecord(_Record):
    item: _TranslateItem
    answer: _Translation

    def to_golden(self, read_image: _ReadImage) -> Golden:
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


class _GenerateItem(_Shape):
    text: str
    prefix: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None


class _Generation(_Shape):
    text: str


class _GenerateRecord(_Record):
    item: _GenerateItem
    answer: _Generation

    def to_golden(self, read_image: _ReadImage) -> Golden:
        item = GenerateItem(**self.item.model_dump())
        return Golden(item, Generation(self.answer.text, truncated=False))


class _DetectItem(_Shape):
    image: str
    threshold: float | None = None
    iou: float | None = None
    max_detections: int | None = None


class _Object(_Shape):
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


class _Detections(_Shape):
    objects: list[_Object]
    width: int = 0
    height: int = 0


class _DetectRecord(_Record):
    item: _DetectItem
    answer: _Detections

    def to_golden(self, read_image: _ReadImage) -> Golden:
        asked, found = self.item, self.answer
        objects = tuple(one.found() for one in found.objects)
        item = DetectItem(read_image(asked.image), asked.threshold, asked.iou, asked.max_detections)
        return Golden(item, Detections(objects, found.width, found.height))


class _EmbedItem(_Content):
    prompt_name: str | None = None


class _Embedding(_Shape):
    embedding: Annotated[list[_Number], Field(min_length=1)]
    indices: list[Annotated[int, Field(ge=0)]] | None = None


class _EmbedRecord(_Record):
    item: _EmbedItem
    answer: _Embedding

    def to_golden(self, read_image: _ReadImage) -> Golden:
        vector, indices = np.asarray(self.answer.embedding, np.float32), self.answer.indices
        places = None if indices is None else np.asarray(indices, np.int32)
        form: VectorForm = "vector" if indices is None else "sparse"
        item = EmbedItem(self.item.content(read_image), self.item.prompt_name, form=form)
        return Golden(item, Embedding(vector, places))


class _Tensor(_Shape):
    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]
    data: list[_Number | bool | str]
    """Flat, in row-major order; strings for the type "string"."""

    def array(self) -> NDArray[Any]:
        if self.dtype == "string":
            return np.array([str(one).encode() for one in self.data], object).reshape(self.shape)
        return np.array(self.data).astype(self.dtype).reshape(self.shape)


class _Tensors(_Shape):
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


class _InferRecord(_Record):
    item: _Tensors
    answer: _Tensors

    def to_golden(self, read_image: _ReadImage) -> Golden:
        return Golden(InferItem(self.item.arrays()), Inference(self.answer.arrays()))


_Record_co = TypeVar("_Record_co", bound=_Record, covariant=True)


class _File(_Shape, Generic[_Record_co]):
    created_with: str
    items: tuple[_Record_co, ...]


_FILES: Mapping[Task, type[_File[_Record]]] = {
    Task.CLASSIFY: _File[_ClassifyRecord],
    Task.TAG: _File[_TagRecord],
    Task.TRANSLATE: _File[_TranslateRecord],
    Task.GENERATE: _File[_GenerateRecord],
    Task.DETECT: _File[_DetectRecord],
    Task.EMBED: _File[_EmbedRecord],
    Task.SPARSE: _File[_EmbedRecord],
    Task.INFER: _File[_InferRecord],
}
