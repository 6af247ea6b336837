"""How single-stage detectors lay out what they found: the declaration of a head.

A head is a table of a manifest, not code; docs/detector-heads.md has one for each kind of model.
`service.transforms.vision.head_reader` reads outputs by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

SIDES: Final = 4
"""Numbers of a box, where each is not a distribution."""

Candidates: TypeAlias = Literal["rows", "columns", "maps", "maps_last", "grids"]
Unit: TypeAlias = Literal["cells", "pixels", "anchors", "input"]

_OF_CENTRES: Final = ("offset", "offset_scale", "size", "size_unit", "variances")
_OF_LEVELS: Final = (
    *("levels", "anchors", "per_cell", "grouped", "point", "offset_unit"),
    *_OF_CENTRES,
)
"""Keys that say something about the cells of strides."""


@dataclass(frozen=True, slots=True)
class Head:
    """What each candidate's numbers mean: a manifest's `[parameters.head]`."""

    candidates: Candidates = "rows"
    """Axes of an output. `rows`: [B, N, numbers]. `columns`: [B, numbers, N]. `maps`: [B, numbers,
    height, width]. `maps_last`: [B, height, width, numbers]. `grids`: [B, per cell, height, width,
    numbers]. A map of several candidates per cell has all numbers of the first, then all of the
    second; rows have the candidates of a cell one after the other."""
    batched: bool = True
    """Whether outputs have the axis B. Without it the graph takes one image at a time:
    `batching.max_batch_size` must be 1."""
    outputs: tuple[str, ...] = ()
    """Outputs to lay side by side as one, in this order. None means the graph's first."""
    levels: tuple[tuple[str, ...], ...] = ()
    """In place of `outputs`: for each of `strides`, its outputs to lay side by side."""
    boxes: Literal["centre", "corners", "corner_size", "distances"] = "centre"
    """`centre`: x, y, width, height. `corners`: left, top, right, bottom. `corner_size`: left, top,
    width, height. `distances`: from the cell's point to left, top, right, bottom."""
    order: Literal["xy", "yx"] = "xy"
    """`yx` where y comes before x, and height before width, as in TensorFlow."""
    box_at: int = 0
    """Number of the first of a box's four."""
    bins: int = 1
    """Numbers of each distance: more than one are the logits of a distribution over 0, 1, 2, …
    (`reg_max` + 1), of which the mean is the distance."""
    objectness_at: int | None = None
    """Number of a score that all others are multiplied by."""
    scores_at: int = 4
    """Number of the first label's score; of the only score where there is `label_at`."""
    label_at: int | None = None
    """Number that is the label; then candidates are objects already, and zeros fill the rest."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What makes scores of the graph's numbers. Objectness is activated by `sigmoid` only."""
    powers: tuple[float, float] = (1.0, 1.0)
    """Exponents of objectness and of a label's score in their product. Other exponents than 1 limit
    both to 0 to 1 first."""
    no_object: Literal["none", "first", "last"] = "none"
    """Whether there is one more score column, for no object."""
    relative: bool = False
    """Boxes are in 0 to 1 of the input, not in pixels."""
    strides: tuple[int, ...] = ()
    """Sizes in pixels of the cells, level by level, where boxes are given relative to cells. Cells
    are in rows from the top left; a level has as many as cover the input."""
    per_cell: tuple[int, ...] = ()
    """How many candidates a cell has, for each stride. None means one, or as many as `anchors`."""
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Width and height in pixels of the anchors of a cell, for each stride."""
    grouped: bool = False
    """A map holds the numbers of a cell kind by kind: the boxes of all its candidates, then their
    objectness, and the scores of labels once for all of them (in the order of their places)."""
    point: Literal["corner", "centre"] = "corner"
    """The point of a cell that offsets and distances are counted from: top left, or its centre."""
    offset: Literal["linear", "sigmoid", "tanh"] = "linear"
    """What makes the offset of a box's centre, of the number or of its sigmoid or tanh."""
    offset_scale: float = 1.0
    """Offsets are multiplied by it around 0.5 (`scale_x_y`): the offset is s * o - (s - 1) / 2."""
    offset_unit: Unit = "cells"
    """What offsets and distances are counted in."""
    size: Literal["exp", "linear", "square", "sigmoid", "sigmoid_square"] = "exp"
    """What makes the size of a box: its exponential, the number t itself, (2 t)², its sigmoid, or
    (2 sigmoid(t))²."""
    size_unit: Unit = "cells"
    """What sizes are counted in."""
    variances: tuple[float, float] = (1.0, 1.0)
    """The numbers of a centre and of a size are multiplied by these first (SSD: 0.1 and 0.2)."""
    suppress: bool = True
    """Whether one object may be several candidates, of which the best is to be kept."""

    def __post_init__(self) -> None:
        places = [self.box_at, self.scores_at, self.objectness_at or 0, self.label_at or 0]
        if min(places) < 0 or any(stride < 1 for stride in self.strides):
            raise ValueError("a number's place and a stride must not be negative")
        if self.label_at is not None and self.no_object != "none":
            raise ValueError("no_object is for heads with a score for each label")
        if self.bins < 1 or (self.bins > 1 and self.boxes != "distances"):
            raise ValueError("bins must be 1, or more for boxes given by distances")
        if not all(power > 0 for power in self.powers):
            raise ValueError("powers must be above zero")
        self._check_cells()
        self._check_levels()
        if self.grouped and self.candidates not in ("maps", "maps_last"):
            raise ValueError("grouped is for maps and maps_last")

    def _check_cells(self) -> None:
        if self.strides:
            if self.boxes not in ("centre", "distances") or self.relative:
                raise ValueError(
                    "strides are for boxes given by their centre or by distances, not relative"
                )
        elif declared := [key for key in _OF_LEVELS if self._says(key)]:
            raise ValueError(f"{', '.join(declared)} must go with strides")
        elif self.boxes == "distances":
            raise ValueError("distances must go with strides, whose cells they are counted from")
        if self.boxes == "distances" and (
            declared := [key for key in _OF_CENTRES if self._says(key)]
        ):
            raise ValueError(f"{', '.join(declared)} must go with boxes given by their centre")
        if ("anchors" in (self.offset_unit, self.size_unit)) != bool(self.anchors):
            raise ValueError("anchors must go with offset_unit or size_unit anchors")
        if any(length <= 0 for level in self.anchors for anchor in level for length in anchor):
            raise ValueError("an anchor's width and height must be above zero")

    def _check_levels(self) -> None:
        if self.levels and self.outputs:
            raise ValueError("say outputs or levels, but not both")
        for key in ("levels", "anchors", "per_cell"):
            if self._says(key) and len(getattr(self, key)) != len(self.strides):
                raise ValueError(f"{key} must have one entry for each of strides")
        if not all(self.levels) or not all(self.anchors) or any(n < 1 for n in self.per_cell):
            raise ValueError("an entry of levels, anchors or per_cell must not be empty")
        if self.anchors and self.per_cell and self.candidates_per_cell != self.per_cell:
            raise ValueError("per_cell must be the number of anchors of each stride")
        if not self.levels and self._is_map and len(self.strides) > 1:
            raise ValueError(f"levels must name the {self.candidates} of each of strides")
        if not self._is_map and self.candidates != "rows" and max(self.candidates_per_cell) > 1:
            raise ValueError("several candidates per cell must be rows, maps, maps_last or grids")

    @property
    def _is_map(self) -> bool:
        return self.candidates in ("maps", "maps_last", "grids")

    def _says(self, key: str) -> bool:
        return bool(getattr(self, key) != Head.__dataclass_fields__[key].default)

    @property
    def candidates_per_cell(self) -> tuple[int, ...]:
        """Return how many candidates a cell of each stride has; (1,) without strides."""
        if self.anchors:
            return tuple(map(len, self.anchors))
        return self.per_cell or (1,) * max(1, len(self.strides))

    def numbers(self, labels: int) -> int:
        """Return how many numbers a candidate has, at least."""
        ends = [self.scores_end(labels), self.box_at + SIDES * self.bins]
        places = (self.objectness_at, self.label_at)
        return max(*ends, *(place + 1 for place in places if place is not None))

    def scores_end(self, labels: int) -> int:
        """Return the place after the last score."""
        if self.label_at is not None:
            return self.scores_at + 1
        return self.scores_at + labels + (self.no_object != "none")


HEADS: Final[Mapping[str, Head]] = {
    "yolov8": Head("columns"),
    "yolov5": Head("rows", objectness_at=4, scores_at=5),
    "yolox": Head("rows", objectness_at=4, scores_at=5, strides=(8, 16, 32)),
    "end_to_end": Head("rows", boxes="corners", label_at=5, suppress=False),
}
"""By the name a manifest's `layout` gives. YOLO 9 and 11 are as v8; v10 is end to end."""
