"""The drawings of emoji that the image tower of `emoji` is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.datasets.emoji import Concept, premultiplied, read_style
from models.starters.emoji.images import augmented

PAGE_STYLE, PAGE_WEIGHT = "fluent3d", 4.0


@dataclass(frozen=True, slots=True)
class Drawings:
    """Drawings of some concepts: pixels, and which concept each one shows."""

    pixels: Tensor  # uint8 [rows, 4, 64, 64], premultiplied
    concepts: NDArray[np.int64]  # [rows], places in the list of concepts
    mirrored: Tensor  # bool [rows], whether the drawing may be mirrored
    weights: Tensor  # float [rows], in the first projection: the style of the page counts most

    def batches(
        self, size: int, generator: np.random.Generator
    ) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield augmented drawings and their concepts for ever, each once an epoch."""
        while True:
            order = generator.permutation(len(self.concepts))
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                chosen = torch.from_numpy(rows)
                yield augmented(self.pixels[chosen], self.mirrored[chosen]), self.concepts[rows]


def load_drawings(root: Path, concepts: Sequence[Concept], styles: Sequence[str]) -> Drawings:
    """Read the drawings of the concepts in the given styles, style by style."""
    shown: list[int] = []
    weights: list[float] = []
    pixels: list[np.ndarray] = []
    for style in styles:
        images = read_style(root, style)
        for at, concept in enumerate(concepts):
            if concept.code in images:
                shown.append(at)
                weights.append(PAGE_WEIGHT if style == PAGE_STYLE else 1.0)
                pixels.append(premultiplied(images[concept.code]))
    mirrored = torch.tensor([concepts[at].may_be_mirrored for at in shown])
    return Drawings(
        torch.from_numpy(np.stack(pixels)), np.array(shown), mirrored, torch.tensor(weights)
    )
