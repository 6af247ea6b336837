"""The drawings of emoji that the image tower of `emoji` is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.datasets.emoji import IMAGE_SIZE, Concept, premultiplied, read_style
from models.starters.emoji.images import augmented


@dataclass(frozen=True, slots=True)
class Drawings:
    """Drawings of some concepts: pixels, and which concept each one shows."""

    pixels: Tensor  # uint8 [rows, 4, 64, 64], premultiplied
    concepts: NDArray[np.int64]  # [rows], places in the list of concepts
    mirrored: Tensor  # bool [rows], whether the drawing may be mirrored

    def batches(
        self, size: int, generator: np.random.Generator, side: int = IMAGE_SIZE
    ) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield augmented drawings and their concepts for ever, each once an epoch.

        Args:
            size: drawings in a batch.
            generator: draws the order.
            side: height and width of the drawings in pixels, 64 or a part of it.
        """
        shrunk = functional.avg_pool2d(self.pixels.float(), IMAGE_SIZE // side).to(torch.uint8)
        while True:
            order = generator.permutation(len(self.concepts))
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                chosen = torch.from_numpy(rows)
                yield augmented(shrunk[chosen], self.mirrored[chosen]), self.concepts[rows]


def load_drawings(root: Path, concepts: Sequence[Concept], styles: Sequence[str]) -> Drawings:
    """Read the drawings of the concepts in the given styles, style by style."""
    shown: list[int] = []
    pixels: list[np.ndarray] = []
    for style in styles:
        images = read_style(root, style)
        for at, concept in enumerate(concepts):
            if concept.code in images:
                shown.append(at)
                pixels.append(premultiplied(images[concept.code]))
    mirrored = torch.tensor([concepts[at].may_be_mirrored for at in shown])
    return Drawings(torch.from_numpy(np.stack(pixels)), np.array(shown), mirrored)
