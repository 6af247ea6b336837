"""From a graph's outputs to boxes and scores, by the declaration of its head.

Boxes come out as corners in pixels of the network's input.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.boxes import Boxes, Indices, Scores, corners
from service.transforms.vision.geometry import Shape
from service.transforms.vision.head_cells import Cells, Floats, sigmoid, softmax
from service.transforms.vision.head_extras import NO_EXTRAS, Extras, extras_misfit
from service.transforms.vision.head_outputs import (
    laid_out,
    measured,
    named_levels,
    refuse_other_grid,
    shown,
    side_by_side,
)
from service.transforms.vision.heads import SIDES, Head

_PAIR = 2
_MOST_SHAPES = 64
"""Most combinations that are remembered: a graph that chooses objects gives many."""
_TURNED = [1, 0, 3, 2]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a head found in one image, with scores of at least the threshold."""

    boxes: Boxes
    scores: Scores
    labels: Indices
    extras: Floats
    """[N, numbers]: the numbers after the head's own."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadReader:
    """Reads outputs of one head, for one size of input and one number of labels."""

    head: Head
    labels: int
    cells: Cells | None
    """Where the head has strides."""
    extras: Extras = NO_EXTRAS
    _accepted: set[tuple[tuple[int, ...], ...]] = field(default_factory=set, repr=False)
    """Shapes of outputs that were compared with the head, so that each is compared once."""

    @classmethod
    def of(cls, head: Head, labels: int, shape: Shape, extras: Extras = NO_EXTRAS) -> "HeadReader":
        """Prepare for inputs of this height and width."""
        return cls(head, labels, Cells.of(head, shape) if head.strides else None, extras)

    def misfit(self, shapes: Mapping[str, tuple[int | None, ...]]) -> str | None:
        """Return why a graph with outputs of these shapes has no such head; None if it may."""
        try:
            levels = named_levels(self.head, tuple(shapes))
            self._refuse_levels(levels, shapes)
            self._refuse_further_levels(levels, shapes)
        except ValueError as error:
            return str(error)
        return None

    def arranged(self, outputs: Mapping[str, NDArray[Any]]) -> Floats:
        """Return a batch's output as [B, numbers, N].

        Raises:
            ValueError: it is not what the head says.
        """
        named, levels = named_levels(self.head, tuple(outputs)), []
        shapes = tuple(outputs[name].shape for level in named for name in level)
        if shapes not in self._accepted:
            self._refuse_levels(named, {name: array.shape for name, array in outputs.items()})
            if len(self._accepted) < _MOST_SHAPES:
                self._accepted.add(shapes)
        for level, names in enumerate(named):
            per_cell = self._per_cell(level)
            parts = [
                laid_out(self._plain(outputs[name], level), self.head, per_cell) for name in names
            ]
            levels.append(side_by_side(parts, names))
        whole = levels[0] if len(levels) == 1 else np.concatenate(levels, axis=2)
        floats: Floats = whole.astype(np.float32, copy=False)
        return floats

    def best_scores(self, output: Floats) -> Scores:
        """Return each candidate's best score, [B, N], of what `arranged` returned."""
        best: Scores = self._class_scores(output).max(axis=1)
        if self._is_sigmoid:
            best = sigmoid(best)
        of_object, of_label = self.head.powers
        if of_label != 1:
            best = np.power(np.clip(best, 0, 1), np.float32(of_label))
        if self.head.objectness_at is not None:
            objectness = output[:, self.head.objectness_at]
            if self._is_sigmoid:
                objectness = sigmoid(objectness)
            if of_object != 1:
                objectness = np.power(np.clip(objectness, 0, 1), np.float32(of_object))
            best = np.multiply(best, objectness)
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
        more = output[self.head.numbers(self.labels) :, chosen].T
        return Candidates(self._boxes(output, chosen, shape), best[chosen], labels, more)

    def score_numbers(self, output: Floats) -> Floats:
        """Return the numbers [B, k, N] that scores are made of, before any activation."""
        end = self.head.scores_end(self.labels)
        scores = output[:, self.head.scores_at : end]
        if self.head.objectness_at is None:
            return scores
        at = self.head.objectness_at
        return np.concatenate([scores, output[:, at : at + 1]], axis=1)

    def _plain(self, output: NDArray[Any], level: int) -> NDArray[Any]:
        """Return an output with all numbers of a candidate together."""
        if not self.head.grouped:
            return output
        return ungrouped(output, self.head, self.labels, self._per_cell(level))

    def _per_cell(self, level: int) -> int:
        """Return how many candidates a cell of these outputs has."""
        per_cell = self.head.candidates_per_cell
        return per_cell[level] if self.head.levels else per_cell[0]

    def _refuse_levels(
        self, levels: Sequence[Sequence[str]], shapes: Mapping[str, Sequence[int | None]]
    ) -> None:
        """Compare every level's outputs with the declaration. Raises ValueError."""
        widths, further = [], self.extras.count(shapes)
        for level, names in enumerate(levels):
            width = self._width({name: shapes[name] for name in names}, level)
            if width is not None and (declared := self._misfit(width, further)):
                raise ValueError(declared)
            widths.append(width)
        if len(set(widths) - {None}) > 1:
            found = "; ".join(f"{', '.join(n)}: {w}" for n, w in zip(levels, widths, strict=True))
            raise ValueError(f"the levels have different numbers per candidate ({found})")

    def _width(self, shapes: Mapping[str, Sequence[int | None]], level: int) -> int | None:
        """Return how many numbers a candidate of a level has; None if the graph does not say.

        Raises:
            ValueError: an output has other axes or other cells than the head declares.
        """
        per_cell = self._per_cell(level)
        widths = list[int | None]()
        for name, shape in shapes.items():
            if not shape:
                return None  # nothing is known of it before it runs
            plain = ungrouped_shape(shape, self.head, self.labels, per_cell)
            width, count = measured(name, plain, self.head, per_cell)
            self._refuse_cells(level, name, plain, count)
            widths.append(width)
        known = [width for width in widths if width is not None]
        return sum(known) if len(known) == len(widths) else None

    def _refuse_cells(
        self, level: int, name: str, shape: Sequence[int | None], count: int | None
    ) -> None:
        if self.cells is None:
            return
        strides = self.head.strides
        if self.head.levels or len(strides) == 1:
            grid, per_cell = self.cells.grids[level], self.head.candidates_per_cell[level]
            refuse_other_grid(name, shape, self.head, strides[level], grid, per_cell)
        elif count not in (None, wanted := sum(self.cells.counts)):
            raise ValueError(
                f"the output {name} of shape {shown(shape)} has {count} candidates; with strides "
                f"{', '.join(map(str, strides))} there are {wanted}"
            )

    def _misfit(self, found: int, further: int | None) -> str | None:
        head = self.head
        wanted, end = head.numbers(self.labels), head.scores_end(self.labels)
        if further != 0:
            return extras_misfit(found - wanted, further)
        if found >= wanted and (
            head.label_at is not None or end in (head.box_at, head.objectness_at, found)
        ):
            return None
        others = [place for place in (head.box_at, head.objectness_at) if place is not None]
        stop = min([place for place in others if place > head.scores_at], default=found)
        scores = min(stop, found) - head.scores_at - (head.no_object != "none")
        if scores != self.labels:
            return f"the graph gives {scores} scores for {self.labels} labels"
        return f"the graph gives {found} numbers per candidate, and the head declares {wanted}"

    def _refuse_further_levels(
        self, levels: Sequence[Sequence[str]], shapes: Mapping[str, tuple[int | None, ...]]
    ) -> None:
        """Refuse a head that leaves out levels that the graph has. Raises ValueError."""
        used = {name for level in levels for name in level}
        sizes = dict(self._sizes(shapes))
        counts = {sizes[name][1] for name in used if name in sizes}
        widths = {sizes[name][0] for name in used if name in sizes}
        further = [
            name
            for name, (width, count) in sizes.items()
            if name not in used and width in widths and count not in counts
        ]
        if further and None not in counts and self.head.label_at is None:
            raise ValueError(
                f"the graph also gives {', '.join(further)}, of as many numbers as "
                f"{', '.join(sorted(used))} and other numbers of candidates: they are further "
                "levels of the head, which [parameters.head] must declare by levels and strides"
            )

    def _sizes(
        self, shapes: Mapping[str, tuple[int | None, ...]]
    ) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield numbers and candidates of each output for which both are known."""
        for name, shape in shapes.items():
            per_cell = shape[-4] if self.head.candidates == "grids" and shape[3:] else 1
            try:
                width, count = measured(name, shape, self.head, per_cell or 1)
            except ValueError:
                continue
            if width is not None and count is not None:
                yield name, (width, count)

    @property
    def _is_sigmoid(self) -> bool:
        return self.head.activation == "sigmoid"

    def _class_scores(self, output: Floats) -> Floats:
        """Return [B, labels, N]: scores that only a sigmoid may be missing from."""
        first = self.head.scores_at
        if self.head.label_at is not None:
            return output[:, first : first + 1]
        scores = output[:, first : self.head.scores_end(self.labels)]
        if self.head.activation == "softmax":
            scores = softmax(scores, 1)
        start = 1 if self.head.no_object == "first" else 0
        return scores[:, start : start + self.labels]

    def _boxes(self, output: Floats, chosen: Indices, shape: Shape) -> Boxes:
        numbers = output[self.head.box_at : self.head.box_at + SIDES * self.head.bins, chosen]
        if self.cells is not None:
            numbers = self.cells.boxes(numbers, chosen)
        elif self.head.order == "yx":
            numbers = numbers[_TURNED]
        if self.head.relative:
            height, width = shape
            numbers = numbers * np.array([width, height] * 2, np.float32)[:, None]
        if self.head.boxes == "centre":
            return corners(numbers.T)
        if self.head.boxes == "corner_size":
            numbers = np.concatenate([numbers[:_PAIR], numbers[:_PAIR] + numbers[_PAIR:]])
        return numbers.T


def ungrouped_shape(
    shape: Sequence[int | None], head: Head, labels: int, per_cell: int
) -> tuple[int | None, ...]:
    """Return the shape that `ungrouped` gives an output of this shape; itself if not grouped."""
    if not head.grouped:
        return tuple(shape)
    axis = _axis(head)
    parts = _parts(head, labels)
    wanted = sum(width * (1 if is_shared else per_cell) for width, is_shared in parts)
    if len(shape) <= axis or shape[axis] != wanted:
        return tuple(shape)  # which fits no such head
    whole = list(shape)
    whole[axis] = per_cell * sum(width for width, _ in parts)
    return tuple(whole)


def ungrouped(output: NDArray[Any], head: Head, labels: int, per_cell: int) -> NDArray[Any]:
    """Return a map with all numbers of the first candidate of each cell, then of the second.

    The scores of labels, which the candidates of a cell share, are repeated for each.
    """
    axis, at, columns = _axis(head), 0, [list[int]() for _ in range(per_cell)]
    for width, is_shared in _parts(head, labels):
        for candidate in columns:
            candidate.extend(range(at, at + width))
            at += 0 if is_shared else width
        at += width if is_shared else 0
    return np.take(output, np.concatenate(columns), axis=axis)


def _parts(head: Head, labels: int) -> list[tuple[int, bool]]:
    """Return the width of each kind of numbers in their order, and whether it is shared."""
    parts = [
        (head.box_at, SIDES * head.bins, False),
        (head.scores_at, head.scores_end(labels) - head.scores_at, True),
    ]
    if head.objectness_at is not None:
        parts.append((head.objectness_at, 1, False))
    return [(width, is_shared) for _, width, is_shared in sorted(parts)]


def _axis(head: Head) -> int:
    return (1 if head.candidates == "maps" else 3) - (not head.batched)
