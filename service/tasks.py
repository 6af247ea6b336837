"""What the service promises, task by task: what goes in, what comes out.

Families answer these; the HTTP schemas in `service.api` translate to and from them.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Part: TypeAlias = str | bytes | int | float | None
"""What a fingerprint is made of."""


def fingerprint(*parts: Part) -> bytes:
    """Return an injective encoding of typed parts: different parts never give the same bytes."""
    return b"".join(map(_encoded, parts))


def _encoded(part: Part) -> bytes:
    match part:
        case None:
            tag, data = b"n", b""
        case str():
            tag, data = b"s", part.encode("utf-8", "surrogatepass")
        case bytes():
            tag, data = b"b", part
        case bool() | int():
            tag, data = b"i", str(int(part)).encode()
        case float():
            tag, data = b"f", struct.pack("<d", part)
    return tag + struct.pack("<Q", len(data)) + data


class Task(StrEnum):
    """The public tasks. A route, a manifest and a family each name one."""

    CLASSIFY = "classify"
    TRANSLATE = "translate"
    DETECT = "detect"
    EMBED = "embed"
    INFER = "infer"

    __hash__ = str.__hash__  # Enum's own is a Python function, which every request calls


class ComposedTask(StrEnum):
    """What `service/requests/` makes of the answers of a model of one of the tasks."""

    ZERO_SHOT = "zero-shot"
    """Classify by labels that the request gives: by an embedder, or a classifier of pairs."""
    RERANK = "rerank"
    """Score texts against a query: by an embedder, or a classifier of pairs."""


Ability: TypeAlias = tuple[Task | ComposedTask, str]
"""What a model can do, and with which modality: "text" or "image"."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text as the caller sent it."""

    text: str

    def fingerprint(self) -> bytes:
        """Return the text, marked as one."""
        return fingerprint("text", self.text)


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image file (PNG, JPEG, ...) as the caller sent it."""

    data: bytes
    max_pixels: int = 50_000_000
    """Refuse an image with more pixels before decoding it; set by the caller."""

    def fingerprint(self) -> bytes:
        """Return the file, marked as an image; the limit does not change its answer."""
        return fingerprint("image", self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded picture, such as a frame of a video."""

    pixels: NDArray[np.uint8]
    """RGB, (height, width, 3)."""

    def fingerprint(self) -> bytes:
        """Return the pixels, marked as a picture of this size."""
        height, width, _ = self.pixels.shape
        return fingerprint("frame", height, width, self.pixels.tobytes())


Content: TypeAlias = Text | Image | Frame


@dataclass(frozen=True, slots=True)
class ClassifyItem:
    """A text or an image to label."""

    content: Content
    top_k: int | None = None
    """How many labels to return, best first; None returns all."""
    text_pair: str | None = None
    """A second text: the labels are of how the two are related."""
    raw_scores: bool = False
    """Whether scores are the numbers that the graph gives, before softmax or sigmoid."""

    def fingerprint(self) -> bytes:
        """Return the content, the number of labels, the second text and the kind of scores."""
        more = fingerprint(self.top_k, self.text_pair, self.raw_scores)
        return self.content.fingerprint() + more


@dataclass(frozen=True, slots=True)
class Label:
    """A class and its score: a probability, or of a regression model the number itself."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels, best first."""

    labels: tuple[Label, ...]


LiteralKind: TypeAlias = Literal["urls", "emails", "numbers", "emoji", "placeholders", "code"]


class FinishReason(StrEnum):
    """Why nothing more was written."""

    STOP = "stop"
    """The model ended the translation."""
    LENGTH = "length"
    """The limit of tokens was reached."""
    REPETITION = "repetition"
    """It began to say the same over and over."""


@dataclass(frozen=True, slots=True)
class TranslateItem:
    """A text to translate. What is None is the model's own default."""

    text: str
    source: str | None = None
    target: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None
    """Tokens of the translation at the most, its end token counted."""
    alternatives: int = 0
    """How many of the best translations to return, including the best one."""
    glossary: tuple[tuple[str, str], ...] = ()
    """Words of the text, and what must stand for each in the translation."""
    protect: tuple[LiteralKind, ...] = ()
    """What of the text must stand in the translation as it is."""

    def fingerprint(self) -> bytes:
        """Return the text and every decoding parameter."""
        return fingerprint(
            self.text,
            self.source,
            self.target,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens,
            self.alternatives,
            len(self.glossary),
            *(word for pair in self.glossary for word in pair),
            *self.protect,
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several translations of a text."""

    text: str
    score: float | None
    """Log-probability / length ** length_penalty; None from greedy search, which keeps none."""
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class KeptTerm:
    """A word that a translation had to keep."""

    source: str
    target: str
    is_kept: bool
    """Whether the target stands in the translation as often as the source in the text."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A translated text."""

    text: str
    source: str
    target: str
    truncated: bool
    """Whether the source was longer than the model reads, or the translation is not whole."""
    finish_reason: FinishReason = FinishReason.STOP
    alternatives: tuple[Alternative, ...] = ()
    """As many as were asked for, best first; the first is the translation itself."""
    glossary: tuple[KeptTerm, ...] = ()
    """The terms that stand in the text."""


@dataclass(frozen=True, slots=True)
class DetectItem:
    """An image to find objects in. What is None is the model's own default."""

    image: Image | Frame
    threshold: float | None = None
    """Least score of an object."""
    iou: float | None = None
    """Two boxes of one label that overlap more than this are one object."""
    max_detections: int | None = None

    def fingerprint(self) -> bytes:
        """Return the image and every threshold."""
        return self.image.fingerprint() + fingerprint(self.threshold, self.iou, self.max_detections)


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """One object found: its box is (left, top, right, bottom) in the original image's pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects by descending score, and the size of the image as it is looked at (EXIF applied)."""

    objects: tuple[DetectedObject, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class EmbedItem:
    """A text or an image to turn into a vector."""

    content: Content
    prompt_name: str | None = None
    """Which of the model's prompts to put before the text; None is the model's default."""
    dimensions: int | None = None
    """How many numbers of the vector to keep, the first ones (Matryoshka); None keeps all."""
    normalize: bool | None = None
    """Whether to scale the vector to unit length; None is the model's default. A vector that has
    unit length keeps it when it is shortened."""

    def fingerprint(self) -> bytes:
        """Return the content, the name of the prompt, and what to make of the vector."""
        more = fingerprint(self.prompt_name, self.dimensions, self.normalize)
        return self.content.fingerprint() + more


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector, float32; of unit length unless the model's own are not."""

    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class InferItem:
    """Tensors to feed to a graph, by input. Strings are arrays of `bytes` (dtype object)."""

    tensors: Mapping[str, NDArray[Any]]
    """Without the batch axis, if the model is batched."""

    def fingerprint(self) -> bytes:
        """Return every tensor with its name, type and shape."""
        return fingerprint(
            *(part for name in sorted(self.tensors) for part in _parts(name, self.tensors[name]))
        )


def _parts(name: str, tensor: NDArray[Any]) -> list[Part]:
    head = [name, tensor.dtype.str, tensor.ndim, *tensor.shape]
    return head + (tensor.ravel().tolist() if tensor.dtype.hasobject else [tensor.tobytes()])


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What a graph returned, by output, in the graph's order."""

    outputs: Mapping[str, NDArray[Any]]
    """As the tensors of an `InferItem`."""


AnyItem: TypeAlias = ClassifyItem | TranslateItem | DetectItem | EmbedItem | InferItem
Answer: TypeAlias = Classification | Translation | Detections | Embedding | Inference


def modality(item: AnyItem) -> str:
    """Return what an item is made of: "text", "image" or "tensor"."""
    if isinstance(item, TranslateItem):
        return "text"
    if isinstance(item, DetectItem):
        return "image"
    if isinstance(item, InferItem):
        return "tensor"
    return "text" if isinstance(item.content, Text) else "image"
