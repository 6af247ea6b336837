"""Segmentation by queries: DETR with masks, MaskFormer. Each pixel is of one object or of none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError, LimitExceededError
from service.families.detections import (
    DetectorProcessor,
    Limits,
    extras,
    limits_of,
    place_of,
    size_of,
    with_masks,
)
from service.families.family import SESSION, Opened, SingleGraphModel, Traits, check_labels
from service.families.image_input import PIXELS, ImageInput, check_colour
from service.tasks import Detections, DetectItem
from service.transforms.vision.geometry import Placement
from service.transforms.vision.image import WHITE
from service.transforms.vision.label_maps import (
    Place,
    best_map,
    label_regions,
    pixels_above,
    places,
)
from service.transforms.vision.masks import Grid
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import Feeds, PreparedItem, Sessions, Tensors, TensorSpec

_LOGITS = ("logits", "class_queries_logits")
_MASKS = ("pred_masks", "masks_queries_logits")
_RANK = 3


@dataclass(frozen=True, slots=True)
class SetSegmenterParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    processing: Processing
    """How images are processed. They must not be cropped."""
    score_threshold: float = 0.5
    """Least score of an object, where the item does not say."""
    mask_threshold: float = 0.5
    """A mask is where its probability, times the object's score, is at least this."""
    visible_share: float = 0.8
    """An object goes if others take so much of its mask that no more than this share is left."""
    max_detections: int = 300
    """Most objects of an answer, where the item does not say."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour(self.background)
        self.limits.checked()
        if not (0 <= self.mask_threshold <= 1 and 0 <= self.visible_share <= 1):
            raise ValueError("mask_threshold and visible_share must be from 0 to 1")
        if self.processing.crop is not None or self.processing.pad is not None:
            raise ValueError("images to segment must be neither cropped nor padded")

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        return Limits(self.score_threshold, None, self.max_detections, "rle")


def open_set_segmenter(
    folder: Path, parameters: SetSegmenterParameters
) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
    model = SetSegmenterModel(images, parameters)
    traits: Traits[DetectItem, Detections] = Traits(
        head_problem=model.head_problem, finds=frozenset({"masks"})
    )
    return Opened(DetectorProcessor(parameters.labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class SetSegmenterModel(SingleGraphModel[ImageInput]):
    """Graph `model`: pixel_values (, pixel_mask) -> logits, pred_masks.

    logits are [B, queries, labels + 1], whose last is "no object"; pred_masks [B, queries, h, w]
    are masks before their sigmoid. MaskFormer calls them class_queries_logits and
    masks_queries_logits. The answer is that of transformers' `post_process_panoptic_segmentation`.
    """

    parameters: SetSegmenterParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        logits, masks = _output(outputs, _LOGITS), _output(outputs, _MASKS)
        if problem := self._misfit(logits.shape[2]):
            raise InferenceError(problem)
        return [
            self._found(scores, maps, item)
            for scores, maps, item in zip(logits, masks, batch, strict=True)
        ]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        place = Placement(1.0, 1.0, 0, 0, 1, 1)
        return self.input.probe(lane, length, extras(self.parameters.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        for name in _LOGITS:
            spec = outputs[SESSION].get(name)
            if spec is not None and len(spec.shape) == _RANK and spec.shape[2] is not None:
                return self._misfit(spec.shape[2])
        return None

    def _misfit(self, scores: int) -> str | None:
        count = len(self.parameters.labels)
        if scores == count + 1:
            return None
        return f"the graph gives {scores} scores a query; for {count} labels there must be one more"

    def _found(
        self, logits: NDArray[np.float32], maps: NDArray[np.float32], prepared: PreparedItem
    ) -> Tensors:
        """Return one image's objects, best first."""
        limits, place = limits_of(prepared), place_of(prepared)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        label, score = shares.argmax(axis=1), shares.max(axis=1)
        chosen = np.flatnonzero((label < len(self.parameters.labels)) & (score > limits.threshold))
        chosen = chosen[np.argsort(-score[chosen], kind="stable")]
        height, width = prepared.tensors[PIXELS].shape[1:]
        grid = Grid.of((maps.shape[1], maps.shape[2]), (height, width), place)
        found, owners = list[Place](), np.full(grid.image, -1, np.int32)
        if len(chosen):
            try:
                found, owners = self._owned(maps[chosen], score[chosen], grid)
            except ValueError as error:
                raise LimitExceededError(str(error)) from None
        found = found[: limits.max_detections]
        queries = chosen[[one.label for one in found]]
        answer = {
            "boxes": np.array([one.box for one in found], np.float32).reshape(-1, 4),
            "scores": score[queries],
            "labels": label[queries],
            "size": size_of(prepared),
        }
        if limits.masks is None:
            return answer
        return with_masks(answer, label_regions(owners, found), limits.masks)

    def _owned(
        self, logits: NDArray[np.float32], scores: NDArray[np.float32], grid: Grid
    ) -> tuple[list[Place], NDArray[np.int32]]:
        """Return where each object is, and the number of the object that has each pixel."""
        with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
            maps = np.reciprocal(1 + np.exp(-logits)) * scores[:, None, None]
        owners = best_map(maps, grid)
        found = []
        for place in places(owners):
            visible = int((owners[place.rows, place.columns] == place.label).sum())
            whole = pixels_above(maps[place.label], grid, self.parameters.mask_threshold)
            if whole and visible / whole > self.parameters.visible_share:
                found.append(place)
        return found, owners


def _output(outputs: Feeds, names: Sequence[str]) -> NDArray[np.float32]:
    for name in names:
        if name in outputs:
            return outputs[name].astype(np.float32, copy=False)
    raise InferenceError(f"the graph gives no {' and no '.join(names)}")
