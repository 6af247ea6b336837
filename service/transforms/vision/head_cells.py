"""From a cell of a detector's head to a box: grids, anchors, distances and their distributions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.boxes import Indices
from service.transforms.vision.geometry import Shape
from service.transforms.vision.heads import SIDES, Head, Unit

Floats: TypeAlias = NDArray[np.float32]

_PAIR = 2


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of a head for one size of input: one column per candidate, level by level."""

    head: Head
    grids: tuple[Shape, ...]
    """Rows and columns of each level."""
    points: Floats
    """[2, N]: x and y in pixels that offsets and distances are counted from."""
    units: Mapping[Unit, Floats]
    """[2, N]: how many pixels each unit is."""

    @classmethod
    def of(cls, head: Head, shape: Shape) -> "Cells":
        """Lay the grids of a head that has strides over an input of this height and width."""
        grids = tuple((-(-shape[0] // s), -(-shape[1] // s)) for s in head.strides)
        points, strides, anchors = [], [], []
        shift = 0.5 if head.point == "centre" else 0.0
        for level, (stride, grid) in enumerate(zip(head.strides, grids, strict=True)):
            per_cell, count = head.candidates_per_cell[level], grid[0] * grid[1]
            ys, xs = np.divmod(np.repeat(np.arange(count), per_cell), grid[1])
            points.append((np.stack([xs, ys]) + shift) * stride)
            strides.append(np.full((_PAIR, count * per_cell), stride))
            if head.anchors:
                anchors.append(np.tile(np.array(head.anchors[level]).T, count))
        ones = np.ones((_PAIR, sum(map(np.size, points)) // _PAIR), np.float32)
        units: dict[Unit, Floats] = {
            "cells": _joined(strides),
            "pixels": ones,
            "input": ones * np.array([[shape[1]], [shape[0]]], np.float32),
        }
        if anchors:
            units["anchors"] = _joined(anchors)
        return cls(head, grids, _joined(points), units)

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the number of candidates of each level."""
        per_cell = self.head.candidates_per_cell
        return tuple(rows * cols * n for (rows, cols), n in zip(self.grids, per_cell, strict=True))

    def boxes(self, numbers: Floats, chosen: Indices) -> Floats:
        """Return the boxes of the chosen candidates, from their numbers [4 * bins, n].

        Returns:
            [4, n]: centre and size, or corners where the head gives distances.
        """
        head, points = self.head, self.points[:, chosen]
        unit = self.units[head.offset_unit][:, chosen]
        if head.boxes == "distances":
            sides = _means(numbers, head.bins)
            if head.order == "yx":
                sides = sides[[1, 0, 3, 2]]
            return np.concatenate([points - sides[:_PAIR] * unit, points + sides[_PAIR:] * unit])
        if head.order == "yx":
            numbers = numbers[[1, 0, 3, 2]]
        offsets = _offsets(numbers[:_PAIR] * np.float32(head.variances[0]), head)
        sizes = _sizes(numbers[_PAIR:] * np.float32(head.variances[1]), head)
        scaled = sizes * self.units[head.size_unit][:, chosen]
        return np.concatenate([points + offsets * unit, scaled])


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    # exp of a large number overflows to infinity, and its inverse is 0: right, but warned of.
    with np.errstate(over="ignore"):
        scores: Floats = np.reciprocal(1 + np.exp(-values))
    return scores


def softmax(values: Floats, axis: int) -> Floats:
    """Return exponentials along an axis, divided by their sum."""
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    shares: Floats = np.divide(powers, powers.sum(axis=axis, keepdims=True))
    return shares


def _means(numbers: Floats, bins: int) -> Floats:
    if bins == 1:
        return numbers
    shares = softmax(numbers.reshape(SIDES, bins, -1), 1)
    means: Floats = np.einsum("sbn,b->sn", shares, np.arange(bins, dtype=np.float32))
    return means


def _offsets(numbers: Floats, head: Head) -> Floats:
    match head.offset:
        case "sigmoid":
            numbers = sigmoid(numbers)
        case "tanh":
            numbers = np.tanh(numbers)
        case "linear":
            pass
    if head.offset_scale == 1:
        return numbers
    return numbers * np.float32(head.offset_scale) - np.float32((head.offset_scale - 1) / 2)


def _sizes(numbers: Floats, head: Head) -> Floats:
    match head.size:
        case "exp":
            sizes: Floats = np.exp(numbers)
        case "linear":
            sizes = numbers
        case "square":
            sizes = np.square(2 * numbers)
        case "sigmoid":
            sizes = sigmoid(numbers)
        case "sigmoid_square":
            sizes = np.square(2 * sigmoid(numbers))
    return sizes


def _joined(parts: list[NDArray[np.float64]]) -> Floats:
    return np.concatenate(parts, axis=1).astype(np.float32)
