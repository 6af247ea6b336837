"""An image to find objects in, and the objects."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from service.tasks.common import Frame, Image, fingerprint

MaskForm: TypeAlias = Literal["rle", "polygons", "png", "none"]
"""How masks are written; "none" leaves them out."""

ObjectPart: TypeAlias = Literal["masks", "keypoints", "rotated_box"]
"""What a model may find of an object besides its box."""


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
    masks: MaskForm | None = None

    def fingerprint(self) -> bytes:
        """Return the image, every threshold and the form of masks."""
        return self.image.fingerprint() + fingerprint(
            self.threshold, self.iou, self.max_detections, self.masks
        )


@dataclass(frozen=True, slots=True)
class Mask:
    """The pixels of an object, in the form that was asked for; the other fields are None."""

    rle: str | None = None
    """Counts of COCO's compressed run-length encoding, for the image's height and width."""
    polygons: tuple[tuple[tuple[float, float], ...], ...] | None = None
    """Outlines in the image's pixels, to be filled by the even-odd rule."""
    png: str | None = None
    """An image as large as the original, white where the object is, in base64."""


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """One object found: its box is (left, top, right, bottom) in the original image's pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mask | None = None
    """None where the model finds no masks, or none were asked for."""
    keypoints: tuple[tuple[float, ...], ...] | None = None
    """x and y of each point and, where the model says so, how likely it is visible."""
    rotated_box: tuple[float, float, float, float, float] | None = None
    """Centre x and y, width, height, and the angle of the width in radians, clockwise."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects by descending score, and the size of the image as it is looked at (EXIF applied)."""

    objects: tuple[DetectedObject, ...]
    width: int
    height: int
