"""Segmentation by queries: DETR with masks, MaskFormer, Mask2Former."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.detections import limits_of
from service.families.family import SESSION, Opened
from service.families.segmentation import (
    SegmentingModel,
    SegmentingParameters,
    answer,
    best_labels,
    grid_of,
    labelled,
    open_segmenting,
    shares_of,
)
from service.tasks import Detections, DetectItem
from service.transforms.vision.boxes import Scores
from service.transforms.vision.geometry import Shape
from service.transforms.vision.label_maps import (
    LabelMap,
    Place,
    label_regions,
    nearest_place,
    nearest_region,
    pixels_above,
    places,
)
from service.transforms.vision.masks import Grid, Map, resized
from service.types import Feeds, PreparedItem, Sessions, Tensors, TensorSpec

_LOGITS = ("logits", "class_queries_logits")
_MASKS = ("pred_masks", "masks_queries_logits")
_RANK = 3
_LEAST = np.finfo(np.float32).tiny
_TINY = 1e-6
"""What transformers adds to a mask's number of pixels."""


@dataclass(frozen=True, slots=True)
class SetSegmenterParameters(SegmentingParameters):
    """The manifest's `[parameters]`."""

    segments: Literal["panoptic", "instance", "semantic"] = "panoptic"
    """What an object is. panoptic: a query, and each pixel is of one object at most. instance:
    a label of a query, and masks may overlap. semantic: all pixels of a label."""
    mask_size: Shape | None = None
    """Height and width that masks are resized to before anything else, as Mask2Former's image
    processor does. If not given, they stay as they are."""
    mask_threshold: float = 0.5
    """With panoptic: a mask is where its probability, times the object's score, is at least this.
    """
    visible_share: float = 0.8
    """With panoptic: an object goes if others take so much of its mask that no more than this
    share is left."""

    def __post_init__(self) -> None:
        SegmentingParameters.__post_init__(self)
        if not (0 <= self.mask_threshold <= 1 and 0 <= self.visible_share <= 1):
            raise ValueError("mask_threshold and visible_share must be from 0 to 1")
        if self.mask_size is not None and min(self.mask_size) < 1:
            raise ValueError("mask_size must be above zero")

    @property
    @override
    def labels_pixels(self) -> bool:
        return self.segments == "semantic"


def open_set_segmenter(
    folder: Path, parameters: SetSegmenterParameters
) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    return open_segmenting(
        parameters, lambda images: SetSegmenterModel(images, parameters.limits, parameters)
    )


@dataclass(frozen=True, slots=True, eq=False)
class SetSegmenterModel(SegmentingModel):
    """Graph `model`: pixel_values (, pixel_mask) -> logits, pred_masks.

    logits are [B, queries, labels + 1], whose last is "no object"; pred_masks [B, queries, h, w]
    are masks before their sigmoid. MaskFormer calls them class_queries_logits and
    masks_queries_logits. The answer is that of transformers' `post_process_panoptic_segmentation`,
    `post_process_instance_segmentation` or `post_process_semantic_segmentation`.
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
            self._found(_softmax(scores), maps, item)
            for scores, maps, item in zip(logits, masks, batch, strict=True)
        ]

    @override
    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
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

    def _found(self, shares: Scores, logits: Map, prepared: PreparedItem) -> Tensors:
        """Return one image's objects, best first.

        Args:
            shares: [queries, labels + 1], probabilities.
            logits: [queries, height, width] of masks.
            prepared: the image's item.
        """
        size = self.parameters.mask_size or (logits.shape[1], logits.shape[2])
        grid = grid_of(prepared, size)
        match self.parameters.segments:
            case "panoptic":
                return self._panoptic(shares, logits, grid, prepared)
            case "instance":
                return self._instances(shares[:, :-1], logits, grid, prepared)
            case "semantic":
                masks = _sigmoid(resized(logits, grid.shape))
                maps = np.maximum(np.tensordot(shares[:, :-1], masks, (0, 0)), _LEAST)
                return labelled(
                    prepared, best_labels(maps, grid), lambda found: shares_of(np.log(maps), found)
                )

    def _panoptic(self, shares: Scores, logits: Map, grid: Grid, prepared: PreparedItem) -> Tensors:
        limits, label, score = limits_of(prepared), shares.argmax(axis=1), shares.max(axis=1)
        chosen = np.flatnonzero((label < len(self.parameters.labels)) & (score > limits.threshold))
        chosen = chosen[np.argsort(-score[chosen], kind="stable")]
        found, owners = list[Place](), np.full(grid.image, -1, np.int32)
        if len(chosen):
            masks = _sigmoid(resized(logits[chosen], grid.shape))
            found, owners = self._owned(masks * score[chosen, None, None], grid)
        found = found[: limits.max_detections]
        queries = chosen[[one.label for one in found]]
        boxes = [one.box for one in found]
        regions = label_regions(owners, found)
        return answer(prepared, boxes, score[queries], label[queries], regions)

    def _owned(self, maps: Map, grid: Grid) -> tuple[list[Place], LabelMap]:
        """Return where each object is, and the number of the object that has each pixel."""
        owners = best_labels(maps, grid)
        found = []
        for place in places(owners):
            visible = int((owners[place.rows, place.columns] == place.label).sum())
            whole = pixels_above(maps[place.label], grid, self.parameters.mask_threshold)
            if whole and visible / whole > self.parameters.visible_share:
                found.append(place)
        return found, owners

    def _instances(
        self, shares: Scores, logits: Map, grid: Grid, prepared: PreparedItem
    ) -> Tensors:
        limits = limits_of(prepared)
        best = np.argsort(-shares.ravel(), kind="stable")[: len(shares)]
        found = list[_Instance]()
        for query, label in zip(*np.divmod(best, shares.shape[1]), strict=True):
            if shares[query, label] < limits.threshold:  # a mask can only lower it
                break
            logit = resized(logits[query], grid.shape)
            mask = logit > 0
            score = shares[query, label] * (_sigmoid(logit[mask]).sum() / (mask.sum() + _TINY))
            place = nearest_place(mask, grid)
            if place is not None and score >= limits.threshold:
                found.append(_Instance(score, label, mask, place))
        found = sorted(found, key=lambda one: -one.score)[: limits.max_detections]
        return answer(
            prepared,
            [one.place.box for one in found],
            np.array([one.score for one in found], np.float32),
            np.array([one.label for one in found], np.intp),
            (nearest_region(one.mask, grid, one.place) for one in found),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Instance:
    score: float
    label: int
    mask: NDArray[np.bool_]
    """[height, width] of the network's masks."""
    place: Place


def _softmax(logits: Scores) -> Scores:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Scores = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(logits: Map) -> Map:
    with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
        maps: Map = np.reciprocal(1 + np.exp(-logits))
    return maps


def _output(outputs: Feeds, names: Sequence[str]) -> NDArray[np.float32]:
    for name in names:
        if name in outputs:
            return outputs[name].astype(np.float32, copy=False)
    raise InferenceError(f"the graph gives no {' and no '.join(names)}")
