"""The kinds of export directories that are served as they are. A new kind is one row of a module.

The first row that knows a directory reads it, so the particular ones come first.
"""

from typing import Final

from service.repository.layouts import (
    embedding,
    generator,
    tensors,
    text,
    translation,
    vision,
    yolo,
)
from service.repository.layouts.facts import Layout

LAYOUTS: Final[tuple[Layout, ...]] = (
    *vision.LAYOUTS,
    *yolo.LAYOUTS,
    *embedding.LAYOUTS,
    *text.LAYOUTS,
    *generator.LAYOUTS,
    *translation.LAYOUTS,
    *generator.NAMED_LAYOUTS,
    *tensors.LAYOUTS,
)
