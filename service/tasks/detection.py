"""An image to find objects in, and the objects."""

from dataclasses import dataclass

from service.tasks.common import Frame, Image, fingerprint


@dataclass(frozen=True, slots=True)
class DetectItem:
    """An image to find objects in. What is None is the model's own default."""

    image: Image | Frame
    threshold: float | None = None
    """Least score of an object."""
    iou: float | None = None
    """Two boxes of one label that overlap more than this are one object."""
    max_detections: int | None = None

    @property
    def modality(self) -> str:
        """What the item is made of."""
        return "image"

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
