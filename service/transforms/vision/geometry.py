"""How large an image becomes for a network, and where a point of it goes. Pure arithmetic.

Sizes are rounded exactly as the image processors of `transformers` and the letterboxes of
Ultralytics and YOLOX round them: one row more or less gives other pixels everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, int]
"""Height and width."""

Anchor: TypeAlias = Literal["centre", "corner"]
Rounding: TypeAlias = Literal["nearest", "down"]
Resizing: TypeAlias = Literal["none", "stretch", "shortest_edge", "inside", "letterbox"]

_LETTERBOX_ROUNDS: Mapping[Anchor, Rounding] = {"centre": "nearest", "corner": "down"}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image went: x * scale_x + left, y * scale_y + top."""

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    """Of the original image, upright, in pixels; so is `height`."""
    height: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """The part of a recipe that decides on sizes."""

    resize: Resizing = "stretch"
    """stretch: to exactly `size`. shortest_edge: to that length, keeping the shape. inside: as
    large as fits into `size`, keeping the shape. letterbox: the same on a grey canvas of `size`.
    """
    size: Shape | None = None
    """Height and width."""
    shortest_edge: int | None = None
    """What the shorter edge is resized to."""
    longest_edge: int | None = None
    """With `shortest_edge`: what the longer edge may not exceed."""
    multiple_of: int = 1
    """Both edges are then made a multiple of it, by `multiple_rounds`; not those of `size`."""
    multiple_rounds: Literal["down", "up"] = "down"
    """down: cut to the multiple, as by YOLOS. up: stretched to it, as by MaskFormer."""
    anchor: Anchor = "centre"
    """Where a letterboxed image lies: in the centre, or at the top left."""
    letterbox_rounds: Rounding | None = None
    """How the sides of a letterboxed image are rounded: to the nearest number, as by Ultralytics,
    or down, as by YOLOX. If not given: down where `anchor` is the corner, else to the nearest."""
    canvas_stride: int | None = None
    """Of letterboxing: make the canvas smaller by as many whole strides as the image leaves
    empty, as Ultralytics does for graphs of any size (`rect`). If not given, it is `size`."""
    crop: Shape | None = None
    """Cut this much out of the centre; what is beyond the edges is black."""
    crop_rounds: Literal["down", "even"] = "down"
    """Where a crop begins if as many rows cannot be left out on either side: one row less at the
    top, as in transformers; or half of them rounded to an even number, as in torchvision."""
    pad: Shape | None = None
    """Grow to this at the bottom and the right, with zeros, after all else."""

    def __post_init__(self) -> None:
        if self.resize in ("stretch", "inside", "letterbox") and self.size is None:
            raise ValueError(f"size must be given to resize by {self.resize}")
        if self.resize == "shortest_edge" and self.shortest_edge is None:
            raise ValueError("shortest_edge must be given to resize by it")
        lengths = [self.shortest_edge, self.longest_edge, self.multiple_of, self.canvas_stride]
        for shape in (self.size, self.crop, self.pad):
            lengths += shape or ()
        if any(length is not None and length < 1 for length in lengths):
            raise ValueError("image_size and every other length must be above zero")
        if self.crop is not None and self.resize == "letterbox":
            raise ValueError("a letterboxed image is not cropped")
        if self.canvas_stride is not None and self.resize != "letterbox":
            raise ValueError("canvas_stride is for letterboxing")

    @property
    def square(self) -> Shape:
        """Return `size`, which a recipe that resizes to one has."""
        if self.size is None:
            raise ValueError("this recipe has no size")
        return self.size

    @property
    def fixed(self) -> Shape | None:
        """Return the shape that every input has; None if it depends on the image."""
        if self.pad is not None:
            return self.pad
        if self.crop is not None:
            return self.crop
        if self.resize == "stretch" or (self.resize == "letterbox" and self.canvas_stride is None):
            return self.square
        return None

    def fitted(self, height: int, width: int) -> tuple[Shape, Placement]:
        """Return the shape to resize an image to, and where its pixels end up."""
        shape = self._resized(height, width)
        scale_x, scale_y = shape[1] / width, shape[0] / height
        top, left = 0, 0
        if self.resize == "letterbox":
            if self._truncates:  # YOLOX takes one scale for both axes
                scale_x = scale_y = min(self.square[1] / width, self.square[0] / height)
            canvas = self.canvas(shape)
            if self.anchor == "centre":
                top, left = (canvas[0] - shape[0]) // 2, (canvas[1] - shape[1]) // 2
        elif self.crop is not None:
            above, before = self.corner(shape, self.crop)
            top, left = -above, -before
        return shape, Placement(scale_x, scale_y, left, top, width, height)

    def shape(self, height: int, width: int) -> Shape:
        """Return the shape of the input that an image becomes, before `pad`."""
        if self.crop is not None:
            return self.crop
        resized = self._resized(height, width)
        return self.canvas(resized) if self.resize == "letterbox" else resized

    def canvas(self, image: Shape) -> Shape:
        """Return the shape of the canvas of a letterboxed image that was resized to this shape."""
        if self.canvas_stride is None:
            return self.square
        height, width = (
            side + (most - side) % self.canvas_stride
            for side, most in zip(image, self.square, strict=True)
        )
        return height, width

    def multiple(self, length: int) -> int:
        """Return a length as a multiple of `multiple_of`, at least 1."""
        if self.multiple_rounds == "up":
            return max(1, -(-length // self.multiple_of) * self.multiple_of)
        return max(1, length - length % self.multiple_of)

    def most_pixels(self, height: int, width: int) -> int:
        """Return the pixels of the largest image on the way to `shape`, the original aside.

        Images are resized along their rows first, and then along their columns.
        """
        resized = self._resized(height, width)
        return max(resized[0], height if resized[1] != width else 0) * resized[1]

    def corner(self, shape: Shape, crop: Shape) -> Shape:
        """Return top and left of the crop; below zero where the image is smaller."""
        if self.crop_rounds == "down":
            return (shape[0] - crop[0]) // 2, (shape[1] - crop[1]) // 2
        return _rounded_half(shape[0] - crop[0]), _rounded_half(shape[1] - crop[1])

    @property
    def _truncates(self) -> bool:
        return (self.letterbox_rounds or _LETTERBOX_ROUNDS[self.anchor]) == "down"

    def _resized(self, height: int, width: int) -> Shape:
        match self.resize:
            case "none":
                return height, width
            case "stretch":
                return self.square
            case "inside":
                scale = min(self.square[0] / height, self.square[1] / width)
                return max(1, int(height * scale)), max(1, int(width * scale))
            case "letterbox":
                scale = min(self.square[0] / height, self.square[1] / width)
                rounded = int if self._truncates else round
                return max(1, rounded(height * scale)), max(1, rounded(width * scale))
            case "shortest_edge":
                return self._by_shortest_edge(height, width)

    def _by_shortest_edge(self, height: int, width: int) -> Shape:
        wanted = float(self.shortest_edge or 0)
        short, long = min(height, width), max(height, width)
        if self.multiple_rounds == "up":
            edge, other = int(wanted), int(wanted * long / short)
            if self.longest_edge is not None and other > self.longest_edge:
                edge, other = int(self.longest_edge * edge / other), self.longest_edge
            return self._by_edges(edge, other, is_portrait=height > width)
        if self.longest_edge is not None and long / short * wanted > self.longest_edge:
            wanted = self.longest_edge * short / long
        edge = round(wanted)
        # An image whose shorter edge fits stays as it is, even if its longer edge is a little
        # too long; but YOLOS, the one with multiples, asks that of landscapes only.
        stays = short == edge and (height <= width or self.multiple_of == 1)
        other = long if stays else int(wanted * long / short)
        return self._by_edges(edge, other, is_portrait=height > width)

    def _by_edges(self, short: int, long: int, *, is_portrait: bool) -> Shape:
        short, long = self.multiple(short), self.multiple(long)
        return (long, short) if is_portrait else (short, long)


def _rounded_half(spare: int) -> int:
    return round(spare / 2) if spare > 0 else -(-spare // 2)
