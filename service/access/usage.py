"""What the items of a request use: items, characters and pixels."""

from collections.abc import Iterable, Sequence
from typing import Any

from service.access.key import Amounts, Unit
from service.errors import ServiceError
from service.tasks import Frame, Image, Text
from service.transforms.vision.image_files import opened

_TEXTS = ("text", "text_pair")


def usage(items: Sequence[object], with_pixels: bool) -> Amounts:
    """Return what items use. Items that could not be parsed are given as errors and use nothing.

    Args:
        items: of any task.
        with_pixels: whether to look up the size of each image in its file.
    """
    valid = [item for item in items if not isinstance(item, ServiceError)]
    used: dict[Unit, int] = {
        "items": len(valid),
        "characters": sum(len(text) for item in valid for text in _texts(item)),
    }
    if with_pixels:
        used["pixels"] = sum(_pixels(image) for item in valid for image in _images(item))
    return used


def _texts(item: Any) -> Iterable[str]:
    content = getattr(item, "content", None)
    if isinstance(content, Text):
        yield content.text
    for name in _TEXTS:
        if isinstance(text := getattr(item, name, None), str):
            yield text


def _images(item: Any) -> Iterable[Image | Frame]:
    for name in ("content", "image"):
        if isinstance(image := getattr(item, name, None), Image | Frame):
            yield image


def _pixels(image: Image | Frame) -> int:
    """Return the size that the file announces; 0 if it is not one, which the model will refuse."""
    if isinstance(image, Frame):
        height, width, _ = image.pixels.shape
        return int(height * width)
    try:
        width, height = opened(image.data, image.max_pixels).size
    except ServiceError:
        return 0
    return int(width * height)
