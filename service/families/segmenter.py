"""Semantic segmentation: each pixel has one label. An object is all pixels of a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.family import SESSION, Opened
from service.families.segmentation import (
    SegmentingModel,
    SegmentingParameters,
    best_labels,
    grid_of,
    labelled,
    open_segmenting,
    shares_of,
)
from service.tasks import Detections, DetectItem
from service.transforms.vision.label_maps import resized_map
from service.types import PreparedItem, Sessions, Tensors, TensorSpec

_LOGITS, _LABELS = 4, 3
"""Axes of scores for each pixel, and of a map of labels."""


@dataclass(frozen=True, slots=True)
class SegmenterParameters(SegmentingParameters):
    """The manifest's `[parameters]`."""


def open_segmenter(folder: Path, parameters: SegmenterParameters) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder."""
    count = len(parameters.labels)
    return open_segmenting(
        parameters, lambda images: SegmenterModel(images, parameters.limits, count)
    )


@dataclass(frozen=True, slots=True, eq=False)
class SegmenterModel(SegmentingModel):
    """Graph `model`: pixel_values -> logits [B, labels, h, w], or labels [B, h, w].

    The output is called `logits`, or it is the graph's first.
    """

    labels: int

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        output = outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
        if problem := self._misfit(output.shape):
            raise InferenceError(problem)
        return [self._found(maps, item) for maps, item in zip(output, batch, strict=True)]

    @override
    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        specs = outputs[SESSION]
        spec = specs.get("logits") or next(iter(specs.values()), None)
        return None if spec is None or not spec.shape else self._misfit(spec.shape)

    def _misfit(self, shape: Sequence[int | None]) -> str | None:
        if len(shape) == _LABELS or (len(shape) == _LOGITS and shape[1] in (None, self.labels)):
            return None
        if len(shape) != _LOGITS:
            return "the graph gives neither scores [B, labels, h, w] nor labels [B, h, w]"
        return f"the graph gives {shape[1]} scores for {self.labels} labels"

    def _found(self, maps: NDArray[Any], prepared: PreparedItem) -> Tensors:
        """Return one image's labels, best first."""
        grid = grid_of(prepared, (maps.shape[-2], maps.shape[-1]))
        if maps.ndim == _LOGITS - 1:
            logits = maps.astype(np.float32, copy=False)
            return labelled(
                prepared, best_labels(logits, grid), lambda labels: shares_of(logits, labels)
            )
        labels = resized_map(maps, grid)
        labels[labels >= self.labels] = -1
        return labelled(prepared, labels, lambda found: [1.0] * len(found))
