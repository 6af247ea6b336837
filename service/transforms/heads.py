"""How single-stage detectors lay out what they found: from a graph's output to boxes and scores.

A head is a declaration, not code: any layout of one candidate after the other can be told to
the service by a manifest. Boxes come out as corners in pixels of the network's input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.transforms.boxes import Boxes, Indices, Scores, corners
from service.transforms.geometry import Shape

_RANK = 3
_BOX = 4
_PAIR = 2

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """What each candidate's numbers mean: a manifest's `[parameters.head]`."""

    candidates: Literal["rows", "columns"] = "rows"
    """The output is [B, candidates, numbers], or [B, numbers, candidates]."""
    outputs: tuple[str, ...] = ()
    """Outputs to lay side by side as one, in this order; none means the graph's first."""
    boxes: Literal["centre", "corners", "corner_size"] = "centre"
    """centre x and y, width, height; left, top, right, bottom; left, top, width, height."""
    box_at: int = 0
    """Number of the first of a box's four."""
    objectness_at: int | None = None
    """Number of a score that all others are multiplied by."""
    scores_at: int = 4
    """Number of the first label's score; of the only score where there is `label_at`."""
    label_at: int | None = None
    """Number that is the label; then candidates are objects already, and zeros fill the rest."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What makes scores of the graph's numbers."""
    no_object: Literal["none", "first", "last"] = "none"
    """A score beside the labels' that stands for nothing found."""
    relative: bool = False
    """Boxes are in 0 to 1 of the input, not in pixels."""
    strides: tuple[int, ...] = ()
    """Where centres are offsets in cells of these sizes, and sizes are logarithms."""
    suppress: bool = True
    """Whether one object may be several candidates, of which the best is to be kept."""

    def __post_init__(self) -> None:
        at = [self.box_at, self.scores_at, self.objectness_at or 0, self.label_at or 0]
        if min(at) < 0 or any(stride < 1 for stride in self.strides):
            raise ValueError("a number's place and a stride must not be negative")
        if self.label_at is not None and self.no_object != "none":
            raise ValueError("no_object is for heads with a score for each label")
        if self.strides and self.boxes != "centre":
            raise ValueError("strides are for boxes given by their centre")

    def numbers(self, labels: int) -> int:
        """Return how many numbers a candidate has, at least."""
        if self.label_at is not None:
            last = max(self.scores_at, self.label_at)
        else:
            last = self.scores_at + labels + (self.no_object != "none") - 1
        return max(last, self.objectness_at or 0, self.box_at + _BOX - 1) + 1


HEADS: Final[Mapping[str, Head]] = {
    "yolov8": Head("columns"),
    "yolov5": Head("rows", objectness_at=4, scores_at=5),
    "yolox": Head("rows", objectness_at=4, scores_at=5, strides=(8, 16, 32)),
    "end_to_end": Head("rows", boxes="corners", label_at=5, suppress=False),
}
"""By the name a manifest's `layout` gives. YOLO 9 and 11 are as v8; v10 is end to end."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a head found in one image, with scores of at least the threshold."""

    boxes: Boxes
    scores: Scores
    labels: Indices


@dataclass(frozen=True, slots=True, eq=False)
class HeadReader:
    """Reads outputs of one head, for one size of input and one number of labels."""

    head: Head
    labels: int
    cells: tuple[Floats, Floats] | None
    """Corner [2, N] and stride [N] of each candidate's cell, where the head has strides."""

    @classmethod
    def of(cls, head: Head, labels: int, shape: Shape) -> "HeadReader":
        """Prepare for inputs of this height and width."""
        return cls(head, labels, _cells(head.strides, shape) if head.strides else None)

    def misfit(self, shapes: Mapping[str, tuple[int | None, ...]]) -> str | None:
        """Return why a graph with outputs of these shapes has no such head; None if it may."""
        names = self.head.outputs or tuple(shapes)[:1]
        if missing := [name for name in names if name not in shapes]:
            return f"the graph has no output {' or '.join(missing)}"
        if len(names) > 1 or len(shape := shapes[names[0]]) != _RANK:
            return None  # what is laid side by side is counted when it is there
        found = shape[1 if self.head.candidates == "columns" else 2]
        return None if found is None else self._misfit(found)

    def _misfit(self, found: int) -> str | None:
        wanted = self.head.numbers(self.labels)
        if found >= wanted and (self.head.label_at is not None or found == wanted):
            return None
        scores = found - self.head.scores_at - (self.head.no_object != "none")
        return f"the graph gives {scores} scores for {self.labels} labels"

    def arranged(self, outputs: Mapping[str, NDArray[Any]]) -> Floats:
        """Return a batch's output as [B, numbers, N].

        Raises:
            ValueError: it is not what the head says.
        """
        names = self.head.outputs or tuple(outputs)[:1]
        if missing := [name for name in names if name not in outputs]:
            raise ValueError(f"the graph has no output {' or '.join(missing)}")
        parts = [_three_axes(outputs[name], self.head) for name in names]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if said := self._misfit(whole.shape[1]):
            raise ValueError(said)
        if self.cells is not None and whole.shape[2] != self.cells[0].shape[1]:
            raise ValueError(
                f"the graph gives {whole.shape[2]} candidates; with strides "
                f"{', '.join(map(str, self.head.strides))} there are {self.cells[0].shape[1]}"
            )
        floats: Floats = whole.astype(np.float32, copy=False)
        return floats

    def best_scores(self, output: Floats) -> Scores:
        """Return each candidate's best score, [B, N], of what `arranged` returned."""
        best: Scores = self._class_scores(output).max(axis=1)
        if self._is_sigmoid:
            best = _sigmoid(best)
        if self.head.objectness_at is not None:
            objectness = output[:, self.head.objectness_at]
            best = np.multiply(best, _sigmoid(objectness) if self._is_sigmoid else objectness)
        return best

    def found(self, output: Floats, best: Scores, threshold: float, shape: Shape) -> Candidates:
        """Return one image's candidates [numbers, N] whose best score reaches the threshold."""
        chosen = np.flatnonzero(best >= threshold)
        if self.head.label_at is None:
            labels = self._class_scores(output[None, :, chosen])[0].argmax(axis=0)
        else:
            named = output[self.head.label_at]
            # Rows without a score or a label there is are only there to fill the tensor.
            real = (best[chosen] > 0) & (named[chosen] >= 0) & (named[chosen] < self.labels)
            chosen = chosen[real]
            labels = named[chosen].astype(np.intp)
        return Candidates(self._boxes(output, chosen, shape), best[chosen], labels)

    @property
    def _is_sigmoid(self) -> bool:
        return self.head.activation == "sigmoid"

    def _class_scores(self, output: Floats) -> Floats:
        """Return [B, labels, N]: scores that only a sigmoid may be missing from."""
        first = self.head.scores_at
        if self.head.label_at is not None:
            return output[:, first : first + 1]
        has_none = self.head.no_object != "none"
        scores = output[:, first : first + self.labels + has_none]
        if self.head.activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = np.divide(powers, powers.sum(axis=1, keepdims=True))
        start = 1 if self.head.no_object == "first" else 0
        return scores[:, start : start + self.labels]

    def _boxes(self, output: Floats, chosen: Indices, shape: Shape) -> Boxes:
        numbers = output[self.head.box_at : self.head.box_at + _BOX, chosen]
        if self.cells is not None:
            corner, strides = self.cells
            centre = (numbers[:_PAIR] + corner[:, chosen]) * strides[chosen]
            numbers = np.concatenate([centre, np.exp(numbers[_PAIR:]) * strides[chosen]])
        if self.head.relative:
            height, width = shape
            numbers = numbers * np.array([width, height] * 2, np.float32)[:, None]
        if self.head.boxes == "centre":
            return corners(numbers.T)
        if self.head.boxes == "corner_size":
            numbers = np.concatenate([numbers[:_PAIR], numbers[:_PAIR] + numbers[_PAIR:]])
        return numbers.T


def _three_axes(output: NDArray[Any], head: Head) -> NDArray[Any]:
    """Return an output as [B, numbers, N]."""
    if output.ndim == 2:  # noqa: PLR2004 - one number a candidate
        return output[:, None]
    if output.ndim != _RANK:
        raise ValueError(f"an output of shape {output.shape} is not a list of candidates")
    return output if head.candidates == "columns" else output.transpose(0, 2, 1)


def _cells(strides: Sequence[int], shape: Shape) -> tuple[Floats, Floats]:
    corner, sizes = [], []
    for stride in strides:
        rows, columns = shape[0] // stride, shape[1] // stride
        ys, xs = np.divmod(np.arange(rows * columns), columns)
        corner.append(np.stack([xs, ys]))
        sizes.append(np.full(rows * columns, stride))
    return (
        np.concatenate(corner, axis=1).astype(np.float32),
        np.concatenate(sizes).astype(np.float32),
    )


def _sigmoid(values: Floats) -> Floats:
    # exp of a large number overflows to infinity, and its inverse is 0: right, but warned of.
    with np.errstate(over="ignore"):
        scores: Floats = np.reciprocal(1 + np.exp(-values))
    return scores
