"""Draws answers on the pictures that they are of."""

from collections.abc import Sequence
from functools import cache
from textwrap import wrap
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from service.tasks import DetectedObject, Label

_TEXT_SHARE = 30
"""Of the height of a picture, one line of text is this part."""
_LEAST_TEXT = 10

_RED = (200, 0, 0)

Pixels = NDArray[np.uint8]


def draw_objects(
    pixels: Pixels, objects: Sequence[DetectedObject], ids: Sequence[int | None] | None = None
) -> Pixels:
    """Return a picture, [height, width, 3], with boxes, labels and scores; and ids, if given."""
    image = Image.fromarray(pixels)
    pen, size = ImageDraw.Draw(image), _text_size(image)
    for place, found in enumerate(objects):
        number = None if ids is None else ids[place]
        name = found.label if number is None else f"{number} {found.label}"
        colour = _colour(found.label)
        left, top, right, bottom = found.box
        box = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        pen.rectangle(box, outline=colour, width=max(1, size // 8))
        _write(pen, (box[0], box[1] - 1.3 * size), f"{name} {found.score:.2f}", size, colour)
    return np.asarray(image)


def draw_labels(pixels: Pixels, labels: Sequence[Label]) -> Pixels:
    """Return a picture, [height, width, 3], with labels and scores at its top."""
    image = Image.fromarray(pixels)
    pen, size = ImageDraw.Draw(image), _text_size(image)
    for line, label in enumerate(labels):
        text = f"{label.name} {label.score:.2f}"
        _write(pen, (0.0, 1.3 * size * line), text, size, _colour(label.name))
    return np.asarray(image)


def draw_problem(pixels: Pixels, problem: str) -> Pixels:
    """Return a picture, [height, width, 3], that says why it has no answer."""
    image = Image.fromarray(pixels)
    size = _text_size(image)
    lines = wrap(problem, max(1, 2 * image.width // size - 1))
    _write(ImageDraw.Draw(image), (0.0, 0.0), "\n".join(lines), size, _RED)
    return np.asarray(image)


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, ...],
) -> None:
    """Write white text on a background of this colour, inside the picture."""
    place = (max(0.0, place[0]), max(0.0, place[1]))
    pen.rectangle(pen.textbbox(place, text, _font(size)), fill=colour)
    pen.text(place, text, "white", _font(size))


def _text_size(image: Image.Image) -> int:
    return max(_LEAST_TEXT, image.height // _TEXT_SHARE)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _colour(label: str) -> tuple[int, ...]:
    """Return a colour, the same for a label in every picture, on which white can be read."""
    return ImageColor.getrgb(f"hsl({crc32(label.encode()) % 360}, 80%, 35%)")
