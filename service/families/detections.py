"""From boxes in a network's input to objects in the image; what the detectors have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.tasks import DetectedObject, Detections, DetectItem
from service.transforms.vision.boxes import Boxes, Indices, Scores, suppress
from service.transforms.vision.geometry import Placement
from service.types import PreparedItem, Tensors

_MOST_DETECTIONS = 1_000
_NO_SUPPRESSION = 1.0
"""No two boxes overlap by more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an item asks for, or its model's own."""

    threshold: float
    iou: float | None
    """None keeps boxes whatever their overlap."""
    max_detections: int

    def check(self) -> None:
        """Refuse what cannot be. Raises InvalidInputError."""
        if not 0 <= self.threshold <= 1:
            raise InvalidInputError("threshold must be from 0 to 1")
        if self.iou is not None and not 0 <= self.iou <= 1:
            raise InvalidInputError("iou must be from 0 to 1")
        if not 1 <= self.max_detections <= _MOST_DETECTIONS:
            raise InvalidInputError(f"max_detections must be from 1 to {_MOST_DETECTIONS}")

    def checked(self) -> None:
        """Do the same for a manifest's. Raises ValueError."""
        try:
            self.check()
        except InvalidInputError as error:
            raise ValueError(str(error)) from None

    def asked(self, item: DetectItem) -> "Limits":
        """Return those of an item. Raises InvalidInputError."""
        limits = Limits(
            self.threshold if item.threshold is None else item.threshold,
            self.iou if item.iou is None else item.iou,
            self.max_detections if item.max_detections is None else item.max_detections,
        )
        limits.check()
        return limits


def beside(limits: Limits, place: Placement) -> Tensors:
    """Return what goes with an image's pixels through the batcher."""
    iou = _NO_SUPPRESSION if limits.iou is None else limits.iou
    return {
        "limits": np.array([limits.threshold, iou, limits.max_detections], np.float64),
        "scale": np.array([place.scale_x, place.scale_y]),
        "place": np.array([place.left, place.top, place.width, place.height]),
    }


def limits_of(work: PreparedItem) -> Limits:
    """Return what `beside` was given."""
    threshold, iou, most = work.tensors["limits"].tolist()
    return Limits(threshold, None if iou == _NO_SUPPRESSION else iou, int(most))


def size_of(work: PreparedItem) -> NDArray[np.int64]:
    """Return width and height of the original image."""
    size: NDArray[np.int64] = work.tensors["place"][2:]
    return size


def to_original(boxes: Boxes, work: PreparedItem) -> Boxes:
    """Move boxes from the network's input to the original image, and cut them at its edges."""
    left, top, width, height = work.tensors["place"].tolist()
    offset = np.array([left, top, left, top], np.float32)
    scale = np.tile(work.tensors["scale"].astype(np.float32), 2)
    edges = np.array([width, height, width, height], np.float32)
    original: Boxes = np.clip((boxes - offset) / scale, 0, edges)
    return original


def kept(boxes: Boxes, scores: Scores, labels: Indices, limits: Limits) -> Indices:
    """Return the indices of the objects to answer, best first; equal scores keep their order."""
    if limits.iou is None:
        return np.argsort(-scores, kind="stable")[: limits.max_detections]
    return suppress(boxes, scores, limits.iou, limits.max_detections, labels)


def named(result: Tensors, labels: Sequence[str]) -> Detections:
    """Return the answer of "boxes", "scores", "labels" and "size"."""
    numbers, scores, boxes = (result[name].tolist() for name in ("labels", "scores", "boxes"))
    width, height = result["size"].tolist()
    objects = tuple(
        DetectedObject(labels[number], score, tuple(box))
        for number, score, box in zip(numbers, scores, boxes, strict=True)
    )
    return Detections(objects, width, height)
