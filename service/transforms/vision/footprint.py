"""How many bytes decoding an image file takes at worst, known from its header.

The numbers are those of Pillow and the libraries below it, and a test measures them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image, JpegImagePlugin, TiffImagePlugin

from service.transforms.counting import occurrences


class PixelBudget:
    """A budget of pixels. Threads that exceed it wait, in order of arrival."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<PixelBudget {self._held} of {self.most} held>"

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Reserve pixels in a `with` block; more than the whole budget waits until it is alone."""
        with self._turn, self._changed:  # who waits for room holds back who comes later
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self.most)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


_STORED: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_WIDE: Final = 4
"""Bytes of a pixel in memory, in every other mode, whatever the file holds."""
_ROW: Final = 32
"""Bytes per row in addition to its pixels, for two images."""
_WEBP: Final = 16
"""Bytes a pixel of a WebP: two canvases of libwebp, the frame copied from it, and the image."""
_COEFFICIENT: Final = 2
_TAIL: Final = 1024


def footprint(image: Image.Image, data: bytes) -> int:
    """Return the bytes held at worst until an opened image is an upright "L" or "RGB".

    They are the pixels as stored, with the most of: what the decoder keeps in addition, a
    copy that is turned, and a copy in the final mode.
    """
    width, height = image.size
    if image.format == "WEBP":
        return _WEBP * width * height
    stored = _STORED.get(image.mode, _WIDE)
    copy = 1 if image.mode in ("1", "L") and not image.has_transparency_data else _WIDE
    beside = max(stored, copy) * width * height
    return stored * width * height + max(beside, _decoder(image, data)) + _ROW * height


def _decoder(image: Image.Image, data: bytes) -> int:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return _jpeg(image, data)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff(image)
    return 0


def _jpeg(image: JpegImagePlugin.JpegImageFile, data: bytes) -> int:
    """Return the size of all coefficients, which a JPEG of several scans keeps to the end.

    One that lacks its end is decoded twice, to compare.
    """
    twice = 0 if b"\xff\xd9" in data[-_TAIL:] else _WIDE * image.width * image.height
    if occurrences(data, b"\xff\xda") == 1:
        return twice
    samples = [across * down for _, across, down, _ in image.layer]
    most = max((across for _, across, _, _ in image.layer), default=1) * max(
        (down for _, _, down, _ in image.layer), default=1
    )
    return twice + _COEFFICIENT * image.width * image.height * sum(samples) // most


def _tiff(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return the size of a strip or tile, of which one at a time is unpacked as a whole."""
    tags = image.tag_v2
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
    pixel = max(_WIDE, (sum(bits) + 7) // 8)  # some are unpacked to RGBA
    if TiffImagePlugin.TILEWIDTH in tags:
        return pixel * int(tags[TiffImagePlugin.TILEWIDTH]) * int(tags[TiffImagePlugin.TILELENGTH])
    rows = int(tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height))
    return pixel * image.width * min(rows, image.height)
