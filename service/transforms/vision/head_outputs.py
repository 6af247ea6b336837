"""Outputs of a graph as one list of candidates, or a sentence about why they are not one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.geometry import Shape
from service.transforms.vision.heads import Candidates, Head

Dimensions = Sequence[int | None]

_RANKS: Final[Mapping[Candidates, int]] = {
    "rows": 3,
    "columns": 3,
    "maps": 4,
    "maps_last": 4,
    "grids": 5,
}
_ROWS = 3


def named_levels(head: Head, names: Sequence[str]) -> Sequence[Sequence[str]]:
    """Return the outputs of each level; all levels may be in the same outputs.

    Raises:
        ValueError: the graph, which gives `names`, does not give one of them.
    """
    levels = head.levels or (head.outputs or tuple(names)[:1],)
    if missing := [name for level in levels for name in level if name not in names]:
        raise ValueError(
            f"the graph has no output {' or '.join(missing)}; it has {', '.join(names)}"
        )
    return levels


def measured(
    name: str, shape: Dimensions, head: Head, per_cell: int
) -> tuple[int | None, int | None]:
    """Return how many numbers and how many candidates an output has; None where the size varies.

    Raises:
        ValueError: it has not the axes that the head declares.
    """
    kind = head.candidates
    whole = shape if head.batched else (1, *shape)
    if kind in ("rows", "columns") and len(whole) == _ROWS - 1:
        return 1, whole[1]
    if len(whole) != _RANKS[kind]:
        raise ValueError(
            f"the output {name} of shape {shown(shape)} is not a list of candidates by "
            f"candidates = {kind!r}, which are {_RANKS[kind] - (not head.batched)} axes"
        )
    if kind in ("rows", "columns"):
        return (whole[2], whole[1]) if kind == "rows" else (whole[1], whole[2])
    if kind == "grids" and whole[1] not in (None, per_cell):
        raise ValueError(f"the output {name} has {whole[1]} candidates per cell, not {per_cell}")
    count = _product(*_grid(whole, kind), per_cell)
    if kind == "grids":
        return whole[4], count
    return _divided(name, whole[3 if kind == "maps_last" else 1], per_cell), count


def refuse_other_grid(
    name: str, shape: Dimensions, head: Head, stride: int, grid: Shape, per_cell: int
) -> None:
    """Compare an output's cells with those of a level. Raises ValueError."""
    _, count = measured(name, shape, head, per_cell)
    wanted = grid[0] * grid[1] * per_cell
    found = _grid(shape if head.batched else (1, *shape), head.candidates)
    fits = all(size in (None, of) for size, of in zip(found, grid, strict=False))
    if fits and count in (None, wanted):
        return
    raise ValueError(
        f"the output {name} of shape {shown(shape)} has {count} candidates; with stride {stride} "
        f"there are {grid[0]} x {grid[1]} cells of {per_cell}, so {wanted}"
    )


def laid_out(output: NDArray[Any], head: Head, per_cell: int) -> NDArray[Any]:
    """Return an output that `measured` accepts as [B, numbers, N], a cell's candidates together."""
    if not head.batched:
        output = output[None]
    if output.ndim == _ROWS - 1:
        return output[:, None]
    batch = len(output)
    match head.candidates:
        case "columns":
            return output
        case "rows":
            return output.transpose(0, 2, 1)
        case "maps":
            cells = output.shape[2] * output.shape[3]
            by_anchor = output.reshape(batch, per_cell, output.shape[1] // per_cell, cells)
            return by_anchor.transpose(0, 2, 3, 1).reshape(batch, by_anchor.shape[2], -1)
        case "maps_last":
            numbers = output.shape[3] // per_cell
            return output.reshape(batch, -1, numbers).transpose(0, 2, 1)
        case "grids":
            return output.transpose(0, 4, 2, 3, 1).reshape(batch, output.shape[4], -1)


def side_by_side(parts: Sequence[NDArray[Any]], names: Sequence[str]) -> NDArray[Any]:
    """Join the numbers of the same candidates. Raises ValueError for other numbers of them."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[2] for part in parts}) > 1:
        counts = ", ".join(f"{n} {p.shape[2]}" for n, p in zip(names, parts, strict=True))
        raise ValueError(
            f"outputs of different numbers of candidates ({counts}) cannot be laid side by side: "
            "outputs of several levels are declared by levels and strides"
        )
    return np.concatenate(parts, axis=1)


def shown(shape: Dimensions) -> str:
    """Return a shape as text."""
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _grid(whole: Dimensions, kind: Candidates) -> Dimensions:
    """Return rows and columns of an output of maps; nothing for another."""
    match kind:
        case "maps":
            return whole[2:4]
        case "maps_last":
            return whole[1:3]
        case "grids":
            return whole[2:4]
        case _:
            return ()


def _divided(name: str, numbers: int | None, per_cell: int) -> int | None:
    if numbers is None:
        return None
    if numbers % per_cell:
        raise ValueError(
            f"the output {name} has {numbers} numbers per cell, which {per_cell} candidates "
            "cannot share"
        )
    return numbers // per_cell


def _product(*sizes: int | None) -> int | None:
    product = 1
    for size in sizes:
        if size is None:
            return None
        product *= size
    return product
