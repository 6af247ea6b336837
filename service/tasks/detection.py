"""An image to find objects in, and the objects."""

from dataclasses import dataclass
from typing import ClassVar

from service.tasks.common import Frame, Image, fingerprint


@dataclass(frozen=True, slots=True)
class DetectItem:
    """An image to find objects in. What is None is the model's own default."""

    modality: ClassVar = "image"
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
