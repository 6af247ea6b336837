"""From a decoded image to a network's input, as the model's image processor does it.

A recipe covers what the image processors of `transformers` and the loaders of the YOLO family
do: fit, crop, scale, normalise. Resizing is Pillow's, as in their reference ("slow") processors,
so pixels are equal to theirs bit for bit; the "fast" ones resize with torchvision, which is at
most two of 256 levels away for bilinear and four for bicubic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision.geometry import Placement, Shape, Sizing
from service.transforms.vision.image import PixelImage
from service.transforms.vision.sampling import Sampling, sampled

Channels: TypeAlias = Literal["L", "RGB", "BGR"]
Resample: TypeAlias = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

RESAMPLES: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In Pillow's numbering, which `preprocessor_config.json` uses."""

_FILTERS: Mapping[Resample, Image.Resampling] = {
    name: Image.Resampling(number) for number, name in enumerate(RESAMPLES)
}
_SAMPLING: tuple[Sampling, ...] = ("nearest", "bilinear", "bicubic")
_LEVELS = 256
_WIDE = 4
"""Bytes of a pixel in Pillow's memory."""
_FLOATS = 8
"""Bytes of a value of the result, and of what it is made from."""
_CHW = (2, 0, 1)


@dataclass(frozen=True, slots=True)
class Processing(Sizing):
    """The recipe: a manifest's `[parameters.processing]`, in the order of its steps."""

    resample: Resample = "bilinear"
    """The filter of resizing, as Pillow calls it."""
    antialias: bool = True
    """False samples the nearest neighbours whatever the scale, as OpenCV does: INTER_LINEAR for
    bilinear, INTER_NEAREST and INTER_CUBIC for the other two."""
    pad_value: int = 114
    """Grey around a letterboxed image."""
    mode: Channels = "RGB"
    """The colours that the network sees."""
    rescale: float = 1 / 255
    """Pixels are multiplied by it; 1 leaves 0 to 255."""
    offset: float = 0.0
    """Added after that."""
    mean: tuple[float, ...] | None = None
    """Per channel, subtracted after that; None, like None for `std`, does nothing."""
    std: tuple[float, ...] | None = None
    """Per channel, divided by after that."""
    std_again: bool = False
    """Divide by `std` a second time, as EfficientNet's processor does."""
    channels_last: bool = False
    """The graph takes [B, height, width, channels], as those of TensorFlow and MediaPipe do."""

    def __post_init__(self) -> None:
        # Not super(): a class with slots is made twice, and super() would look for the first.
        Sizing.__post_init__(self)
        if not 0 <= self.pad_value < _LEVELS:
            raise ValueError("pad_value is a colour's part; it must be from 0 to 255")
        if not self.antialias and self.resample not in _SAMPLING:
            raise ValueError(f"without antialias resample must be one of {', '.join(_SAMPLING)}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} must have {self.channels} number(s) for {self.mode}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above zero")
        if self.rescale <= 0:
            raise ValueError("rescale must be above zero")

    @property
    def channels(self) -> int:
        """Return how many planes an input has."""
        return 1 if self.mode == "L" else 3


@dataclass(frozen=True, slots=True, eq=False)
class ImageProcessor:
    """Applies one recipe. Made once, used by many threads.

    A pixel has 256 values, so all arithmetic on them is done in advance, once for each value
    and channel, in the order and precision of the original; what is left is looking them up.
    Where that comes to dividing by one number, dividing is faster and the same.
    """

    recipe: Processing
    _values: NDArray[np.float32] = field(init=False, repr=False)
    """[C, 256]"""
    _divisor: np.float32 | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = _values(self.recipe)
        divisor = np.float32(1 / self.recipe.rescale)
        is_quotient = np.array_equal(
            values, np.tile(np.arange(_LEVELS, dtype=np.float32) / divisor, (len(values), 1))
        )
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_divisor", divisor if is_quotient else None)

    def __call__(self, image: PixelImage) -> tuple[NDArray[np.float32], Placement]:
        """Return float32 [C, H, W], and where in it the image lies."""
        recipe = self.recipe
        if recipe.mode == "L" and image.mode != "L":
            image = image.convert("L")
        fitted, place = recipe.fitted(image.height, image.width)
        image = _resized(image, fitted, recipe)
        if recipe.mode != "L" and image.mode != "RGB":
            image = image.convert("RGB")  # each channel is resized alone, so grey is resized once
        if recipe.resize == "letterbox":
            image = _on_canvas(image, recipe, place)
        if recipe.crop is not None:
            top, left = recipe.corner((image.height, image.width), recipe.crop)
            height, width = recipe.crop
            image = image.crop((left, top, left + width, top + height))
        return self._looked_up(image), place

    def bytes_used(self, height: int, width: int) -> int:
        """Return the largest number of bytes that processing takes in addition to the image."""
        recipe = self.recipe
        between = recipe.most_pixels(height, width)
        final = recipe.shape(height, width)
        as_grey = height * width if recipe.mode == "L" else 0
        return as_grey + 2 * _WIDE * between + recipe.channels * _FLOATS * final[0] * final[1]

    def _looked_up(self, image: PixelImage) -> NDArray[np.float32]:
        pixels = np.asarray(image)[None] if image.mode == "L" else np.asarray(image).transpose(_CHW)
        if self.recipe.mode == "BGR":
            pixels = pixels[::-1]
        planes = np.empty(pixels.shape, np.float32)
        if self._divisor is not None:
            planes[...] = pixels
            planes /= self._divisor
            return planes
        for values, source, plane in zip(self._values, pixels, planes, strict=True):
            np.take(values, source, out=plane, mode="clip")
        return planes


def _values(recipe: Processing) -> NDArray[np.float32]:
    """Return what each of 256 levels becomes, for each channel, rounded where the original is."""
    levels = np.arange(_LEVELS, dtype=np.float64)
    values = np.tile((levels * recipe.rescale).astype(np.float32), (recipe.channels, 1))
    if recipe.offset:
        values += np.float32(recipe.offset)
    if recipe.mean is not None:
        values -= np.asarray(recipe.mean, np.float32)[:, None]
    for _ in range(2 if recipe.std_again else 1):
        if recipe.std is not None:
            values /= np.asarray(recipe.std, np.float32)[:, None]
    return values


def _resized(image: PixelImage, shape: Shape, recipe: Processing) -> PixelImage:
    height, width = shape
    if image.size == (width, height):
        return image
    if recipe.antialias:
        return image.resize((width, height), _FILTERS[recipe.resample])
    return sampled(image, width, height, next(s for s in _SAMPLING if s == recipe.resample))


def _on_canvas(image: PixelImage, recipe: Processing, place: Placement) -> PixelImage:
    height, width = recipe.canvas((image.height, image.width))
    if image.size == (width, height):
        return image
    grey = recipe.pad_value
    canvas = Image.new(image.mode, (width, height), grey if image.mode == "L" else (grey,) * 3)
    canvas.paste(image, (place.left, place.top))
    return canvas
