"""Texts, images and pictures; fingerprints; and the task of classification."""

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeAlias

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
    TAG = "tag"
    TRANSLATE = "translate"
    GENERATE = "generate"
    DETECT = "detect"
    EMBED = "embed"
    SPARSE = "sparse"
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

    modality: ClassVar = "text"
    text: str

    def fingerprint(self) -> bytes:
        """Return the text, marked as one."""
        return fingerprint("text", self.text)


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image file (PNG, JPEG, ...) as the caller sent it."""

    modality: ClassVar = "image"
    data: bytes
    max_pixels: int = 50_000_000
    """Refuse an image with more pixels before decoding it; set by the caller."""

    def fingerprint(self) -> bytes:
        """Return the file, marked as an image; the limit does not change its answer."""
        return fingerprint("image", self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded picture, such as a frame of a video."""

    modality: ClassVar = "image"
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

    @property
    def modality(self) -> str:
        """What the content is: "text" or "image"."""
        return self.content.modality

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
