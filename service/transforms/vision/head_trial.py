"""Whether a head is a graph's, by the scores that it reads for made-up images."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from service.transforms.vision.geometry import Shape
from service.transforms.vision.head_cells import Floats
from service.transforms.vision.head_reader import HeadReader
from service.transforms.vision.image import PixelImage

_GREY = 128
_TILES = (4, 16)
"""Tiles along each side of the images of random colours."""
_ROUNDING = 0.05
"""How far beyond 0 and 1 the scores of a quantised graph may be."""
_MANY = 100
"""Scores of which all cannot happen to be from 0 to 1 unless they are shares already."""


def made_up(shape: Shape) -> Iterator[PixelImage]:
    """Yield a grey image and some of random tiles, of this height and width; always the same."""
    height, width = shape
    yield Image.new("RGB", (width, height), (_GREY,) * 3)
    random = np.random.default_rng(0)
    for tiles in _TILES:
        colours = random.integers(0, 256, (tiles, tiles, 3), np.uint8)
        yield Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def head_problem(reader: HeadReader, outputs: Sequence[Floats]) -> str | None:
    """Return why a head cannot be that of a graph; None if it may be.

    Args:
        reader: of the head.
        outputs: what it arranged, for several images.
    """
    numbers = np.concatenate([reader.score_numbers(output).ravel() for output in outputs])
    if not numbers.size:
        return None  # a graph that chooses objects, and found none
    if not np.isfinite(numbers).all():
        return "the head reads scores that are not finite numbers"
    return _activation_problem(reader, numbers) or _silence(reader, outputs)


def _activation_problem(reader: HeadReader, numbers: Floats) -> str | None:
    low, high = float(numbers.min()), float(numbers.max())
    is_share = low >= 0 and high <= 1
    found = f"the head reads scores from {low:.3g} to {high:.3g} for made-up images"
    activation, chooses = reader.head.activation, reader.head.label_at is not None
    if activation == "none" and (high > 1 + _ROUNDING or (low < -_ROUNDING and not chooses)):
        return (
            f"{found}, which are no shares of 1: another activation (sigmoid or softmax) or other "
            "places of its numbers would read the graph"
        )
    if activation == "sigmoid" and is_share and low < high and numbers.size > _MANY:
        return f'{found} before its sigmoid, so the graph has activated them: activation = "none"'
    return None


def _silence(reader: HeadReader, outputs: Sequence[Floats]) -> str | None:
    """Return which level yields nothing for any image; None if all may yield something."""
    if reader.head.label_at is not None:
        return None
    best = np.max([reader.best_scores(output).max(axis=0) for output in outputs], axis=0)
    counts = [len(best)] if reader.cells is None else reader.cells.counts
    levels = np.split(best, np.cumsum(counts)[:-1])
    silent = [number for number, level in enumerate(levels) if level.max(initial=0) <= 0]
    if len(silent) == len(levels):
        return f"the head yields nothing for any of {len(outputs)} made-up images: its scores are 0"
    if silent:
        strides = ", ".join(str(reader.head.strides[number]) for number in silent)
        return (
            f"of the head's levels, those of stride {strides} yield nothing for any of "
            f"{len(outputs)} made-up images: their scores are 0"
        )
    return None
