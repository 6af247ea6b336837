"""Detectors that answer a set: DETR, YOLOS, RT-DETR, D-FINE. One query, one object or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    size_of,
)
from service.families.family import SESSION, Opened, SingleGraphModel, Traits, check_labels
from service.families.image_input import ImageInput, check_colour
from service.tasks import Detections, DetectItem
from service.transforms.vision.boxes import Boxes, Indices, Scores, corners
from service.transforms.vision.geometry import Placement
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import PreparedItem, Sessions, Tensors, TensorSpec

_RANK = 3


@dataclass(frozen=True, slots=True)
class DetrDetectorParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    processing: Processing
    """How images are processed."""
    scores: Literal["softmax", "sigmoid"]
    """softmax: over the labels and "no object", which comes last, one label a query. sigmoid:
    each label of each query by itself, the best of all of them.
    """
    top_k: int | None = None
    """With sigmoid, the most objects that are found; None means the number of queries."""
    score_threshold: float = 0.5
    """Least score of an object, where the item does not say."""
    iou_threshold: float | None = None
    """Sets hold each object once, so by default nothing is suppressed."""
    max_detections: int = 300
    """Most objects of an answer, where the item does not say."""
    mix_sizes: bool = False
    """Pad images of different sizes into one batch. A convolution then sees padding beyond an
    image's edge, so answers depend a little on the batch; without it only equal sizes share one.
    """
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour(self.background)
        self.limits.checked()

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        return Limits(self.score_threshold, self.iou_threshold, self.max_detections)


def open_detr_detector(
    folder: Path, parameters: DetrDetectorParameters
) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    processor = ImageProcessor(parameters.processing)
    images = ImageInput(processor, parameters.background, parameters.mix_sizes)
    model = DetrDetectorModel(images, parameters)
    traits: Traits[DetectItem, Detections] = Traits(head_problem=model.head_problem)
    return Opened(DetectorProcessor(parameters.labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class DetrDetectorModel(SingleGraphModel[ImageInput]):
    """Graph `model`: pixel_values (, pixel_mask) -> logits, pred_boxes.

    logits are [B, queries, labels (+ 1)]; pred_boxes [B, queries, 4] are centre x and y, width
    and height in 0 to 1 of the image. Boxes may reach beyond the image, as the model gives them.
    """

    parameters: DetrDetectorParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        if missing := [name for name in ("logits", "pred_boxes") if name not in outputs]:
            raise InferenceError(f"the graph gives no {' and no '.join(missing)}")
        logits = outputs["logits"].astype(np.float32, copy=False)
        boxes = outputs["pred_boxes"].astype(np.float32, copy=False)
        if problem := self._misfit(logits.shape[2]):
            raise InferenceError(problem)
        return [
            self._found(*self._scored(row, places), prepared)
            for row, places, prepared in zip(logits, boxes, batch, strict=True)
        ]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        place = Placement(1.0, 1.0, 0, 0, 1, 1)
        return self.input.probe(lane, length, extras(self.parameters.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        logits = outputs[SESSION].get("logits")
        scores = logits.shape[2] if logits is not None and len(logits.shape) == _RANK else None
        return None if scores is None else self._misfit(scores)

    def _misfit(self, scores: int) -> str | None:
        count = len(self.parameters.labels)
        expected = count + (self.parameters.scores == "softmax")
        if scores == expected:
            return None
        return (
            f"the graph gives {scores} scores a query; for {count} labels there must be {expected}"
        )

    def _scored(self, logits: NDArray[Any], boxes: Boxes) -> tuple[Boxes, Scores, Indices]:
        """Return boxes, scores and labels of one image's objects."""
        if self.parameters.scores == "softmax":
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
            return boxes, scores.max(axis=1), scores.argmax(axis=1)
        with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
            scores = np.reciprocal(1 + np.exp(-logits)).ravel()
        best = np.argsort(-scores, kind="stable")[: self.parameters.top_k or len(logits)]
        query, label = np.divmod(best, logits.shape[1])
        return boxes[query], scores[best], label

    def _found(
        self, boxes: Boxes, scores: Scores, labels: Indices, prepared: PreparedItem
    ) -> Tensors:
        limits = limits_of(prepared)
        reached = np.flatnonzero(scores >= limits.threshold)
        width, height = size_of(prepared).tolist()
        placed = corners(boxes[reached]) * np.array([width, height] * 2, np.float32)
        chosen = kept(placed, scores[reached], labels[reached], limits)
        return {
            "boxes": placed[chosen],
            "scores": scores[reached][chosen],
            "labels": labels[reached][chosen],
            "size": size_of(prepared),
        }
