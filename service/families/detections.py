"""From boxes in a network's input to objects in the image; shared by the detectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InvalidInputError, LimitExceededError
from service.families.family import LANE
from service.families.image_input import ImageInput
from service.tasks import DetectedObject, Detections, DetectItem, Mask
from service.transforms.vision.boxes import Boxes, Indices, Scores, suppress
from service.transforms.vision.geometry import Placement
from service.transforms.vision.masks import written_masks
from service.transforms.vision.regions import FORMS, Region, RegionForm, read_polygons
from service.types import PreparedItem, Processor, Tensors

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
    masks: RegionForm | None = None
    """How to write masks; None leaves them out."""

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
        if item.masks not in (None, "none") and self.masks is None:
            raise InvalidInputError("this model finds no masks: leave masks out")
        limits = Limits(
            self.threshold if item.threshold is None else item.threshold,
            self.iou if item.iou is None else item.iou,
            self.max_detections if item.max_detections is None else item.max_detections,
            self.masks if item.masks is None else None if item.masks == "none" else item.masks,
        )
        limits.check()
        return limits


def extras(limits: Limits, place: Placement) -> Tensors:
    """Return what accompanies an image's pixels: its limits and its place in the input."""
    iou = _NO_SUPPRESSION if limits.iou is None else limits.iou
    form = -1 if limits.masks is None else FORMS.index(limits.masks)
    return {
        "limits": np.array([limits.threshold, iou, limits.max_detections, form], np.float64),
        "scale": np.array([place.scale_x, place.scale_y]),
        "place": np.array([place.left, place.top, place.width, place.height]),
    }


def limits_of(prepared: PreparedItem) -> Limits:
    """Return the limits that `extras` was given."""
    threshold, iou, most, form = prepared.tensors["limits"].tolist()
    return Limits(
        threshold,
        None if iou == _NO_SUPPRESSION else iou,
        int(most),
        None if form < 0 else FORMS[int(form)],
    )


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
        return self.images.wrap(pixels, LANE, extras(limits, place))

    @override
    def postprocess(self, result: Tensors, item: DetectItem) -> Detections:
        numbers, scores, boxes = (result[name].tolist() for name in ("labels", "scores", "boxes"))
        width, height = result["size"].tolist()
        objects = [
            DetectedObject(self.labels[number], score, tuple(box))
            for number, score, box in zip(numbers, scores, boxes, strict=True)
        ]
        return Detections(tuple(_completed(objects, result)), width, height)


def with_masks(found: Tensors, regions: Iterator[Region], form: RegionForm) -> Tensors:
    """Return an image's objects with their masks; those whose mask is empty are left out.

    Args:
        found: arrays with a row for each object, and "size".
        regions: the mask of each object.
        form: how to write them.

    Raises:
        LimitExceededError: they are too large or too complex for one answer.
    """
    try:
        masks = written_masks(regions, form)
    except ValueError as error:
        raise LimitExceededError(str(error)) from None
    rows = {name: array[masks.places] for name, array in found.items() if name != "size"}
    return {
        **rows,
        "size": found["size"],
        "masks": masks.data,
        "mask_ends": masks.ends,
        "mask_form": np.array(FORMS.index(form)),
    }


def _completed(objects: Sequence[DetectedObject], result: Tensors) -> Sequence[DetectedObject]:
    """Add what the model found of each object besides its box."""
    if "masks" in result:
        form = FORMS[int(result["mask_form"])]
        data, ends = result["masks"].tobytes(), [0, *result["mask_ends"].tolist()]
        masks = [_mask(data[start:end], form) for start, end in pairwise(ends)]
        objects = [replace(one, mask=m) for one, m in zip(objects, masks, strict=True)]
    if "keypoints" in result:
        sets = [tuple(map(tuple, points)) for points in result["keypoints"].tolist()]
        objects = [replace(one, keypoints=k) for one, k in zip(objects, sets, strict=True)]
    if "rotated" in result:
        boxes = [tuple(box) for box in result["rotated"].tolist()]
        objects = [replace(one, rotated_box=b) for one, b in zip(objects, boxes, strict=True)]
    return objects


def _mask(data: bytes, form: RegionForm) -> Mask:
    match form:
        case "rle":
            return Mask(rle=data.decode())
        case "polygons":
            return Mask(polygons=read_polygons(data))
        case "png":
            return Mask(png=data.decode())
