"""Pictures of an evaluation: a confusion matrix, and quality against time and size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluate.findings import Confusion

_MOST_NAMED = 40
"""Labels beyond which neither names nor numbers could be read."""
_MOST_COUNTED = 15


@dataclass(frozen=True, slots=True)
class Point:
    """One precision in a picture."""

    name: str
    quality: float
    milliseconds: float
    megabytes: float


def front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Tell which rows no other row beats: as good in every column and better in one.

    Args:
        costs: rows of equal length; less is better in every column.
    """

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [not any(beats(other, row) for other in costs) for row in costs]


def draw_front(points: Sequence[Point], path: Path, quality: str, *, less: bool = False) -> None:
    """Draw quality against time and against size, the Pareto front filled.

    Args:
        points: what was measured.
        path: of the PNG.
        quality: what it is called.
        less: whether less of it is better; then the axis is logarithmic.
    """
    plt = _pyplot()
    sign = 1 if less else -1
    best = front([(sign * one.quality, one.milliseconds, one.megabytes) for one in points])
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("milliseconds", "megabytes"), strict=True):
        for one, is_best in zip(points, best, strict=True):
            at = getattr(one, name), max(one.quality, 1e-9) if less else one.quality
            axis.plot(*at, "o", color="C0", fillstyle="full" if is_best else "none")
            axis.annotate(one.name, at, xytext=(5, 4), textcoords="offset points")
        axis.set_yscale("log" if less else "linear")
        axis.set_xlim(0, 1.3 * max(getattr(one, name) for one in points))
        axis.margins(y=0.15)
    axes[0].set_ylabel(quality)
    axes[0].set_xlabel("ms, CPU")
    axes[1].set_xlabel("MB of graphs")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_confusion(confusion: Confusion, path: Path, title: str) -> None:
    """Draw how often each label was answered with each, by share of the row."""
    plt = _pyplot()
    labels, counts = confusion.labels, confusion.counts
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(12.0, 3 + 0.45 * len(labels))
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="answered", ylabel="true", title=title)
    if len(labels) <= _MOST_NAMED:
        axis.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axis.set_yticks(range(len(labels)), labels)
    if len(labels) <= _MOST_COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(picture, label="share of the true label")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - loaded only where a picture is asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
