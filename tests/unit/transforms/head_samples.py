"""Outputs of heads, and the boxes that they should give."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.head_reader import HeadReader
from service.transforms.vision.heads import Head

Arrays = Mapping[str, NDArray[np.float32]]
SHAPE = (64, 96)


RNG = np.random.default_rng(7)


def normal(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def decoded(head: Head, labels: int, outputs: Arrays, shape: tuple[int, int] = SHAPE) -> Any:
    """Every candidate of each image of the batch: boxes [B, N, 4], best scores, labels."""
    reader = HeadReader.of(head, labels, shape)
    assert reader.misfit({name: array.shape for name, array in outputs.items()}) is None
    whole = reader.arranged(outputs)
    best = reader.best_scores(whole)
    found = [
        reader.found(one, scores, -1.0, shape) for one, scores in zip(whole, best, strict=True)
    ]
    return (
        np.stack([one.boxes for one in found]),
        np.stack([one.scores for one in found]),
        np.stack([one.labels for one in found]),
    )


def agrees(found: Any, expected: list[tuple[list[float], float, int]], image: int = 0) -> None:
    boxes, scores, labels = (part[image] for part in found)
    np.testing.assert_allclose(boxes, [box for box, _, _ in expected], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores, [score for _, score, _ in expected], rtol=1e-5, atol=1e-6)
    assert labels.tolist() == [label for _, _, label in expected]


def cells(stride: int, shape: tuple[int, int] = SHAPE) -> list[tuple[int, int]]:
    """Row and column of each cell, row by row."""
    rows, columns = -(-shape[0] // stride), -(-shape[1] // stride)
    return [(row, column) for row in range(rows) for column in range(columns)]


def total(strides: tuple[int, ...], per_cell: int = 1) -> int:
    return sum(len(cells(stride)) * per_cell for stride in strides)
