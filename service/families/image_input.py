"""From images to a graph's feeds; shared by the families that take images."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service import tasks
from service.errors import InferenceError, LimitExceededError
from service.transforms.vision.geometry import Placement, Shape
from service.transforms.vision.image import WHITE, PixelImage, decoded_frame, decoding
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import Feeds, PreparedItem, Session, Tensors

ImageMode: TypeAlias = Literal["L", "RGB"]

PIXELS = "pixel_values"
MASK = "pixel_mask"

_RANK = 4
_NHWC = (0, 2, 3, 1)
# Pixels of an image while it is resized, before it is cropped: a long and thin one would need
# gigabytes.
_MOST_RESIZED = 32_000_000

# Longer side divided by shorter side. Models see some hundred pixels each way, so the shorter
# side of a longer image would be less than one of them.
MAX_ASPECT = 1000


@dataclass(frozen=True, kw_only=True)
class ImageParameters:
    """Keys of `[parameters]` for images: a recipe `processing`, or the numbers of the simplest."""

    processing: Processing | None = None
    """How images are processed; it stands in place of the short keys below."""
    image_size: tuple[int, int] | None = None
    """Height and width; an image is stretched to it."""
    mode: ImageMode = "RGB"
    """The colours that the network sees."""
    mean: tuple[float, ...] | None = None
    """Per channel, subtracted from pixels of 0 to 1."""
    std: tuple[float, ...] | None = None
    """Per channel, divided by after that."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageInput:
    """Images for a graph that takes [B, C, H, W] or, by `channels_last`, [B, H, W, C].

    It also makes a mask of their pixels for a graph that asks for one.
    """

    processor: ImageProcessor
    background: tuple[int, int, int]
    mixes_sizes: bool = False
    """Whether images of different sizes share a batch, padded to its largest."""

    def __post_init__(self) -> None:
        check_colour(self.background)

    @classmethod
    def of(cls, parameters: ImageParameters, mixes_sizes: bool = False) -> "ImageInput":
        """Make one from a family's parameters. Raises ValueError."""
        return cls(ImageProcessor(_recipe(parameters)), parameters.background, mixes_sizes)

    @property
    def lengths(self) -> Sequence[int]:
        """Return the number of pixels of an input, or some from the least to the most."""
        recipe = self.processor.recipe
        if recipe.fixed is not None:
            return [recipe.fixed[0] * recipe.fixed[1]]
        if recipe.resize == "shortest_edge":
            edge, longest = recipe.shortest_edge or 1, recipe.longest_edge
            edge = recipe.multiple(min(edge, longest or edge))
            ends = [edge, edge * 4 // 3, longest or 4 * edge]
            return sorted({edge * max(edge, recipe.multiple(end)) for end in ends})
        height, width = recipe.size or (1024, 1024)
        if recipe.canvas_stride is not None:
            return sorted({width * side for side in (recipe.canvas((height // 2, 0))[0], height)})
        return sorted({height * width // 4, height * width})

    def prepare(self, image: tasks.Image | tasks.Frame, lane: str) -> PreparedItem:
        """Decode and process. Raises what `read` raises."""
        return self.wrap(self.read(image)[0], lane)

    def read(self, image: tasks.Image | tasks.Frame) -> tuple[NDArray[np.float32], Placement]:
        """Decode and process; also return where in the input the image lies.

        Raises:
            InvalidInputError: the image is damaged.
            LimitExceededError: it has too many pixels, or too many for this model.
            UnsupportedMediaTypeError: it is of a kind not read here.
        """
        with self._decoding(image) as decoded:
            self._check_shape(decoded.height, decoded.width)
            processed = self.processor(decoded)
            del decoded  # frees its memory before `decoding` releases the reservation
        return processed

    def _decoding(self, image: tasks.Image | tasks.Frame) -> AbstractContextManager[PixelImage]:
        if isinstance(image, tasks.Frame):
            return decoded_frame(image.pixels, self._used)
        return decoding(
            image.data, max_pixels=image.max_pixels, background=self.background, use=self._used
        )

    def wrap(
        self, tensor: NDArray[np.float32], lane: str, extras: Tensors | None = None
    ) -> PreparedItem:
        """Return a processed image, with more tensors, as a prepared item."""
        recipe = self.processor.recipe
        shape = recipe.pad or (tensor.shape[1], tensor.shape[2])
        group = None if recipe.fixed is not None or self.mixes_sizes else shape
        return PreparedItem({PIXELS: tensor} | dict(extras or {}), lane, shape[0] * shape[1], group)

    def probe(self, lane: str, length: int, extras: Tensors | None = None) -> PreparedItem:
        """Return a prepared item of exactly this many pixels."""
        shape = self.shape_of(length)
        tensor = np.zeros((self.processor.recipe.channels, *shape), np.float32)
        return self.wrap(tensor, lane, extras)

    def feeds_for(self, session: Session, batch: Sequence[PreparedItem]) -> Feeds:
        """Put the images into one tensor of the graph's own type.

        Raises:
            InferenceError: the graph has no input for images.
        """
        name = image_input(session)
        pixels = fed = self._stacked(batch)
        if self.processor.recipe.channels_last:
            fed = np.ascontiguousarray(pixels.transpose(_NHWC))
        feeds = {name: fed.astype(session.inputs[name].dtype, copy=False)}
        if MASK in session.inputs:
            feeds[MASK] = self._mask(batch, session, pixels.shape[2:])
        return feeds

    def _stacked(self, batch: Sequence[PreparedItem]) -> NDArray[np.float32]:
        tensors = [prepared.tensors[PIXELS] for prepared in batch]
        shape = self._common_shape(tensors)
        if all(tensor.shape[1:] == shape for tensor in tensors):
            return stacked(batch, PIXELS)
        pixels = np.zeros((len(tensors), tensors[0].shape[0], *shape), np.float32)
        for row, tensor in zip(pixels, tensors, strict=True):
            row[:, : tensor.shape[1], : tensor.shape[2]] = tensor
        return pixels

    def _common_shape(self, tensors: Sequence[NDArray[Any]]) -> Shape:
        return self.processor.recipe.pad or (
            max(tensor.shape[1] for tensor in tensors),
            max(tensor.shape[2] for tensor in tensors),
        )

    def _mask(
        self, batch: Sequence[PreparedItem], session: Session, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """Return 1 for the pixels of an image, 0 for its padding."""
        spec = session.inputs[MASK]
        height, width = spec.shape[-2:]
        if height is not None and width is not None:
            # DETR of transformers.js has a mask of 64 x 64, to be all ones whatever the image.
            return np.ones((len(batch), height, width), spec.dtype)
        mask = np.zeros((len(batch), *shape), spec.dtype)
        for row, prepared in zip(mask, batch, strict=True):
            height, width = prepared.tensors[PIXELS].shape[1:]
            row[:height, :width] = 1
        return mask

    def _used(self, height: int, width: int) -> int:
        """Return the bytes that processing takes. Raises LimitExceededError."""
        self._check_shape(height, width)
        return self.processor.bytes_used(height, width)

    def _check_shape(self, height: int, width: int) -> None:
        recipe = self.processor.recipe
        final = recipe.shape(height, width)
        too_large = recipe.most_pixels(height, width) > _MOST_RESIZED or (
            recipe.fixed is None and final[0] * final[1] > self.lengths[-1]
        )
        if too_large:
            raise LimitExceededError(
                f"the image is {width} x {height} pixels; for this model it is too large, or too "
                "long and thin"
            )
        if max(height, width) > MAX_ASPECT * min(height, width):
            short, long = ("width", "height") if width < height else ("height", "width")
            raise LimitExceededError(
                f"the image is {width} x {height} pixels; its {long} may be at most {MAX_ASPECT} "
                f"times its {short}, since a model would see nothing of it"
            )
        if recipe.pad is not None and (final[0] > recipe.pad[0] or final[1] > recipe.pad[1]):
            raise LimitExceededError("the image is larger than this model pads images to")

    def shape_of(self, length: int) -> Shape:
        """Return a landscape shape of this many pixels, its height near the shortest edge."""
        recipe = self.processor.recipe
        if recipe.fixed is not None:
            return recipe.shape(*recipe.fixed) if recipe.pad is None else recipe.pad
        if recipe.canvas_stride is not None:
            height, width = recipe.square
            return length // width, width
        edge = min(recipe.multiple(recipe.shortest_edge or isqrt(length)), isqrt(length))
        height = next(side for side in range(edge, 0, -1) if length % side == 0)
        return height, length // height


def image_input(session: Session) -> str:
    """Return the name of the graph's input for images. Raises InferenceError."""
    if PIXELS in session.inputs:
        return PIXELS
    found = [name for name, spec in session.inputs.items() if len(spec.shape) == _RANK]
    if len(found) == 1:
        return found[0]
    raise InferenceError(
        f"the graph has no input for images, only {', '.join(session.inputs)}; if it is one of "
        "several of four axes, the table inputs of model.toml names it as pixel_values"
    )


def stacked(batch: Sequence[PreparedItem], name: str) -> NDArray[np.float32]:
    """Return one tensor of all items, [B, ...]; a single item is not copied."""
    if len(batch) == 1:
        return batch[0].tensors[name][None]
    return np.stack([prepared.tensors[name] for prepared in batch])


def check_colour(colour: Sequence[int]) -> None:
    """Check that the parts of a colour are bytes. Raises ValueError."""
    if not all(0 <= part <= 255 for part in colour):  # noqa: PLR2004 - 8 bits
        raise ValueError("a colour's parts must be from 0 to 255")


def _recipe(parameters: ImageParameters) -> Processing:
    if parameters.processing is not None:
        if parameters.image_size or parameters.mean or parameters.std:
            raise ValueError("say processing, or image_size, mode, mean and std, but not both")
        return parameters.processing
    missing = [n for n in ("image_size", "mean", "std") if getattr(parameters, n) is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given where there is no processing")
    return Processing(
        size=parameters.image_size, mode=parameters.mode, mean=parameters.mean, std=parameters.std
    )
