"""Detectors whose graph returns finished objects, as torchvision's do: boxes, labels, scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.detections import (
    DetectorProcessor,
    Limits,
    extras,
    kept,
    limits_of,
    place_of,
    size_of,
    with_masks,
)
from service.families.family import SESSION, Opened, SingleGraphModel, Traits, check_labels
from service.families.image_input import PIXELS, ImageInput, check_colour
from service.tasks import Detections, DetectItem, ObjectPart
from service.transforms.vision.boxes import Boxes
from service.transforms.vision.geometry import Placement
from service.transforms.vision.image import WHITE
from service.transforms.vision.masks import Grid, Map, box_regions
from service.transforms.vision.processing import ImageProcessor, Processing
from service.transforms.vision.regions import RegionForm
from service.types import Feeds, PreparedItem, Session, Sessions, Tensors, TensorSpec

_OUTPUTS = ("boxes", "labels", "scores")
_MASKS = "masks"
_AROUND = 2
"""Pixels by which a mask may reach beyond its box, whose sides torchvision rounds."""
_BATCHED = 4
"""Axes of an input that holds several images."""


@dataclass(frozen=True, slots=True)
class TorchvisionDetectorParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the labels from 0 on, where torchvision has the background."""
    processing: Processing
    """How images are processed. The networks resize and normalise by themselves."""
    masks: bool = False
    """Whether the graph also returns `masks`."""
    mask_threshold: float = 0.5
    """A mask is where its probability is above this."""
    score_threshold: float = 0.5
    """Least score of an object, where the item does not say."""
    iou_threshold: float | None = None
    """The graph has suppressed boxes already, so by default no more are."""
    max_detections: int = 100
    """Most objects of an answer, where the item does not say."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour(self.background)
        self.limits.checked()
        if not 0 < self.mask_threshold <= 1:
            raise ValueError("mask_threshold must be above 0 and at most 1")
        if self.masks and self.processing.crop is not None:
            raise ValueError("images to segment must not be cropped")

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        form: RegionForm | None = "rle" if self.masks else None
        return Limits(self.score_threshold, self.iou_threshold, self.max_detections, form)


def open_torchvision_detector(
    folder: Path, parameters: TorchvisionDetectorParameters
) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
    model = TorchvisionDetectorModel(images, parameters)
    finds: frozenset[ObjectPart] = frozenset({"masks"} if parameters.masks else ())
    traits: Traits[DetectItem, Detections] = Traits(head_problem=model.head_problem, finds=finds)
    return Opened(DetectorProcessor(parameters.labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class TorchvisionDetectorModel(SingleGraphModel[ImageInput]):
    """Graph `model`: one image [3, H, W] or [1, 3, H, W] -> boxes, labels, scores (, masks).

    boxes are [N, 4], left, top, right and bottom in pixels of the input; labels and scores [N];
    masks [N, 1, H, W] probabilities. Images of a batch are run one by one.
    """

    parameters: TorchvisionDetectorParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        return [self._found(session.run(_feeds(session, item)), item) for item in batch]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        place = Placement(1.0, 1.0, 0, 0, 1, 1)
        return self.input.probe(lane, length, extras(self.parameters.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the names of the graph's outputs with those that are read."""
        return self._misfit(outputs[SESSION])

    def _misfit(self, outputs: Mapping[str, object]) -> str | None:
        wanted = [*_OUTPUTS, _MASKS] if self.parameters.masks else _OUTPUTS
        missing = [name for name in wanted if name not in outputs]
        if not missing:
            return None
        return (
            f"the graph gives {', '.join(outputs)} and no {' and no '.join(missing)}: name them by "
            "output_names at the export"
        )

    def _found(self, outputs: Feeds, prepared: PreparedItem) -> Tensors:
        if problem := self._misfit(outputs):
            raise InferenceError(problem)
        limits, place = limits_of(prepared), place_of(prepared)
        boxes, labels, scores = (outputs[name] for name in _OUTPUTS)
        reached = np.flatnonzero(scores >= limits.threshold)
        if (labels[reached] >= len(self.parameters.labels)).any():
            raise InferenceError(
                f"the graph gives label {labels[reached].max()}, and there are "
                f"{len(self.parameters.labels)} from 0 on"
            )
        scale = np.array([place.scale_x, place.scale_y] * 2, np.float32)
        corner = np.array([place.left, place.top] * 2, np.float32)
        placed: Boxes = (boxes[reached] - corner) / scale
        best = kept(placed, scores[reached], labels[reached], limits)
        found: Tensors = {
            "boxes": placed[best],
            "scores": scores[reached][best],
            "labels": labels[reached][best].astype(np.intp),
            "size": size_of(prepared),
        }
        if limits.masks is None:
            return found
        masks = self._maps(outputs[_MASKS][reached][best], prepared)
        shape = masks.shape[1], masks.shape[2]
        grown = found["boxes"] + np.array([-_AROUND, -_AROUND, _AROUND, _AROUND], np.float32)
        logits = (one - self.parameters.mask_threshold for one in masks)
        regions = box_regions(logits, grown, Grid.of(shape, shape, place))
        return with_masks(found, regions, limits.masks)

    def _maps(self, masks: NDArray[np.float32], prepared: PreparedItem) -> Map:
        """Return masks [N, H, W]. Raises InferenceError if they are not as large as the input."""
        shape = prepared.tensors[PIXELS].shape[1:]
        if masks.shape[-2:] == shape and masks.size == len(masks) * shape[0] * shape[1]:
            return masks.reshape(len(masks), *shape)
        raise InferenceError(
            f"masks are [N, {', '.join(map(str, masks.shape[1:]))}] for an image of "
            f"{shape[0]} x {shape[1]}: export the model with masks as large as its input"
        )


def _feeds(session: Session, prepared: PreparedItem) -> Feeds:
    """Return one image for the graph's only input. Raises InferenceError."""
    if len(session.inputs) != 1:
        raise InferenceError(f"the graph takes {', '.join(session.inputs)}, and not one image")
    ((name, spec),) = session.inputs.items()
    pixels = prepared.tensors[PIXELS].astype(spec.dtype, copy=False)
    return {name: pixels[None] if len(spec.shape) == _BATCHED else pixels}
