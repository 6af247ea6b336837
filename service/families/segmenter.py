"""Semantic segmentation: each pixel has one label. An object is all pixels of a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from service.transforms.vision.label_maps import best_map, label_regions, places, resized_map
from service.transforms.vision.masks import Grid
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import PreparedItem, Sessions, Tensors, TensorSpec

_LOGITS, _LABELS = 4, 3
"""Axes of scores for each pixel, and of a map of labels."""


@dataclass(frozen=True, slots=True)
class SegmenterParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    processing: Processing
    """How images are processed. They must not be cropped."""
    score_threshold: float = 0.0
    """Least score of a label, where the item does not say."""
    max_detections: int = 1000
    """Most labels of an answer, where the item does not say."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour(self.background)
        self.limits.checked()
        if self.processing.crop is not None or self.processing.pad is not None:
            raise ValueError("images to segment must be neither cropped nor padded")

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        return Limits(self.score_threshold, None, self.max_detections, "rle")


def open_segmenter(folder: Path, parameters: SegmenterParameters) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
    model = SegmenterModel(images, parameters)
    traits: Traits[DetectItem, Detections] = Traits(
        head_problem=model.head_problem, finds=frozenset({"masks"})
    )
    return Opened(DetectorProcessor(parameters.labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterModel(SingleGraphModel[ImageInput]):
    """Graph `model`: pixel_values -> logits [B, labels, h, w], or labels [B, h, w].

    The output is called `logits`, or it is the graph's first.
    """

    parameters: SegmenterParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        output = outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
        if problem := self._misfit(output.shape):
            raise InferenceError(problem)
        return [self._found(maps, item) for maps, item in zip(output, batch, strict=True)]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        place = Placement(1.0, 1.0, 0, 0, 1, 1)
        return self.input.probe(lane, length, extras(self.parameters.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        specs = outputs[SESSION]
        spec = specs.get("logits") or next(iter(specs.values()), None)
        return None if spec is None or not spec.shape else self._misfit(spec.shape)

    def _misfit(self, shape: Sequence[int | None]) -> str | None:
        count = len(self.parameters.labels)
        if len(shape) == _LABELS or (len(shape) == _LOGITS and shape[1] in (None, count)):
            return None
        if len(shape) != _LOGITS:
            return "the graph gives neither scores [B, labels, h, w] nor labels [B, h, w]"
        return f"the graph gives {shape[1]} scores for {count} labels"

    def _found(self, maps: NDArray[Any], prepared: PreparedItem) -> Tensors:
        """Return one image's labels, best first."""
        limits, place = limits_of(prepared), place_of(prepared)
        height, width = prepared.tensors[PIXELS].shape[1:]
        grid = Grid.of((maps.shape[-2], maps.shape[-1]), (height, width), place)
        if maps.ndim == _LOGITS - 1:
            maps = maps.astype(np.float32, copy=False)
            try:
                labels = best_map(maps, grid)
            except ValueError as error:
                raise LimitExceededError(str(error)) from None
        else:
            labels = resized_map(maps, grid)
            labels[labels >= len(self.parameters.labels)] = -1
        found = places(labels)
        scores = np.array(_scores(maps, [one.label for one in found]), np.float32)
        order = np.argsort(-scores, kind="stable")
        chosen = order[scores[order] >= limits.threshold][: limits.max_detections].tolist()
        answer = {
            "boxes": np.array([found[n].box for n in chosen], np.float32).reshape(-1, 4),
            "scores": scores[chosen],
            "labels": np.array([found[n].label for n in chosen], np.intp),
            "size": size_of(prepared),
        }
        if limits.masks is None:
            return answer
        regions = label_regions(labels, [found[number] for number in chosen])
        return with_masks(answer, regions, limits.masks)


def _scores(maps: NDArray[Any], labels: Sequence[int]) -> Sequence[float]:
    """Return the mean probability of each label where it is the best; 1 if the graph has none."""
    if maps.ndim == _LABELS - 1:
        return [1.0] * len(labels)
    best = maps.max(axis=0)
    total = sum(np.exp(one - best) for one in maps)
    scores = []
    for label in labels:
        shares = np.exp(maps[label] - best) / total
        wins = maps[label] == best
        # A label may win between two numbers of the map alone.
        scores.append(float(shares[wins].mean() if wins.any() else shares.max()))
    return scores
