"""From boxes in a network's input to objects in the image; shared by the detectors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InvalidInputError
from service.families.image_input import ImageInput
from service.tasks import DetectedObject, Detections, DetectItem
from service.transforms.vision.boxes import Boxes, Indices, Scores, suppress
from service.transforms.vision.geometry import Placement
from service.types import PreparedItem, Processor, Tensors

DETECTOR_LANE = "default"

_MOST_DETECTIONS = 1_000
# No two boxes overlap by more.
_NO_SUPPRESSION = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Which objects to answer: an item's own limits, or its model's."""

    threshold: float
    iou: float | None
    """None keeps boxes whatever their overlap."""
    max_detections: int

    def check(self) -> None:
        """Check the ranges. Raises InvalidInputError."""
        if not 0 <= self.threshold <= 1:
            raise InvalidInputError("threshold must be from 0 to 1")
        if self.iou is not None and not 0 <= self.iou <= 1:
            raise InvalidInputError("iou must be from 0 to 1")
        if not 1 <= self.max_detections <= _MOST_DETECTIONS:
            raise InvalidInputError(f"max_detections must be from 1 to {_MOST_DETECTIONS}")

    def checked(self) -> None:
        """Check the ranges in a manifest. Raises ValueError."""
        try:
            self.check()
        except InvalidInputError as error:
            raise ValueError(str(error)) from None

    def asked(self, item: DetectItem) -> "Limits":
        """Return these limits with what the item sets. Raises InvalidInputError."""
        limits = Limits(
            self.threshold if item.threshold is None else item.threshold,
            self.iou if item.iou is None else item.iou,
            self.max_detections if item.max_detections is None else item.max_detections,
        )
        limits.check()
        return limits


def extras(limits: Limits, place: Placement) -> Tensors:
    """Return what accompanies an image's pixels: its limits and its place in the input."""
    iou = _NO_SUPPRESSION if limits.iou is None else limits.iou
    return {
        "limits": np.array([limits.threshold, iou, limits.max_detections], np.float64),
        "scale": np.array([place.scale_x, place.scale_y]),
        "place": np.array([place.left, place.top, place.width, place.height]),
    }


def limits_of(prepared: PreparedItem) -> Limits:
    """Return the limits that `extras` was given."""
    threshold, iou, most = prepared.tensors["limits"].tolist()
    return Limits(threshold, None if iou == _NO_SUPPRESSION else iou, int(most))


def place_of(prepared: PreparedItem) -> Placement:
    """Return the placement that `extras` was given."""
    scale_x, scale_y = prepared.tensors["scale"].tolist()
    return Placement(scale_x, scale_y, *prepared.tensors["place"].tolist())


def size_of(prepared: PreparedItem) -> NDArray[np.int64]:
    """Return width and height of the original image."""
    size: NDArray[np.int64] = prepared.tensors["place"][2:]
    return size


def kept(boxes: Boxes, scores: Scores, labels: Indices, limits: Limits) -> Indices:
    """Return the indices of the objects to answer, best first; equal scores keep their order."""
    if limits.iou is None:
        return np.argsort(-scores, kind="stable")[: limits.max_detections]
    return suppress(boxes, scores, limits.iou, limits.max_detections, labels)


@dataclass(frozen=True, slots=True, eq=False)
class DetectorProcessor(Processor[DetectItem, Detections]):
    """Decodes images and names objects, for every family of detectors."""

    labels: tuple[str, ...]
    images: ImageInput
    limits: Limits
    """Where the item does not say."""

    @override
    def offload(self, item: DetectItem) -> bool:
        return True

    @override
    def preprocess(self, item: DetectItem) -> PreparedItem:
        limits = self.limits.asked(item)
        pixels, place = self.images.read(item.image)
        return self.images.wrap(pixels, DETECTOR_LANE, extras(limits, place))

    @override
    def postprocess(self, result: Tensors, item: DetectItem) -> Detections:
        numbers, scores, boxes = (result[name].tolist() for name in ("labels", "scores", "boxes"))
        width, height = result["size"].tolist()
        objects = tuple(
            DetectedObject(self.labels[number], score, tuple(box))
            for number, score, box in zip(numbers, scores, boxes, strict=True)
        )
        return Detections(objects, width, height)
