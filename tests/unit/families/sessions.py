"""Graphs as numpy functions: real sessions in all but speed, and of known mathematics.

Sums run row by row and in float64, so that a row's numbers do not depend on its neighbours.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.types import DeviceValue, Feed, Feeds, TensorSpec

Arrays = dict[str, NDArray[Any]]

TEXT_INPUTS = {name: TensorSpec("int64", (None, None)) for name in ("input_ids", "attention_mask")}
IMAGE_INPUTS = {"pixel_values": TensorSpec("float32", (None, None, None, None))}
DETECTOR_INPUTS = {"images": TensorSpec("float32", (None, 3, None, None))}
SET_INPUTS = IMAGE_INPUTS | {"pixel_mask": TensorSpec("int64", (None, None, None))}


@dataclass(frozen=True)
class Kept:
    """A value that stayed on the device. Only a session may look into it."""

    _array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def numpy(self) -> NDArray[Any]:
        raise AssertionError("a value that should stay on the device was copied to the host")


@dataclass
class NumpySession:
    """A session that computes with a function, and remembers the shapes it was fed."""

    compute: Callable[[Arrays], Arrays]
    inputs: Mapping[str, TensorSpec] = field(default_factory=lambda: TEXT_INPUTS)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    fed: list[dict[str, tuple[int, ...]]] = field(default_factory=list)

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        arrays = {k: v._array if isinstance(v, Kept) else np.asarray(v) for k, v in feeds.items()}
        self.fed.append({name: array.shape for name, array in arrays.items()})
        return self.compute(arrays)

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        outputs = self.run(feeds)
        assert set(host) <= set(outputs)
        copied = {name: outputs[name] for name in host}
        return copied, {k: Kept(v) for k, v in outputs.items() if k not in copied}


def text_session(output: str, width: int, vocabulary: int = 64) -> NumpySession:
    """Gives the mean of whole-numbered vectors of the tokens that are not masked."""
    table = np.random.default_rng(1).integers(-50, 50, (vocabulary, width)).astype(np.float64)

    def compute(feeds: Arrays) -> Arrays:
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        assert ids.dtype == mask.dtype == np.int64
        assert ids.shape == mask.shape
        rows = [
            (table[row] * seen[:, None]).sum(axis=0) / seen.sum()
            for row, seen in zip(ids, mask, strict=True)
        ]
        return {output: np.array(rows, np.float32)}

    return NumpySession(compute)


def states_session(width: int, vocabulary: int = 64) -> NumpySession:
    """Gives every token a vector that also depends on all tokens that are not masked."""
    table = np.random.default_rng(3).integers(-50, 50, (vocabulary, width)).astype(np.float64)

    def compute(feeds: Arrays) -> Arrays:
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        rows = [
            table[row] + (table[row] * seen[:, None]).sum(axis=0)
            for row, seen in zip(ids, mask, strict=True)
        ]
        return {"last_hidden_state": np.array(rows, np.float32)}

    return NumpySession(compute)


def tokens_session(width: int, vocabulary: int = 64) -> NumpySession:
    """Gives every token a score for each label, which also depends on the other tokens."""
    states = states_session(width, vocabulary)

    def compute(feeds: Arrays) -> Arrays:
        return {"logits": states.compute(feeds)["last_hidden_state"] / 100}

    return NumpySession(compute)


def image_session(output: str, width: int) -> NumpySession:
    """Gives weighted sums of the pixels."""

    def compute(feeds: Arrays) -> Arrays:
        images = feeds["pixel_values"]
        assert images.dtype == np.float32
        weights = np.random.default_rng(2).normal(size=(width, *images.shape[1:]))
        rows = [[(image * w).sum(dtype=np.float64) for w in weights] for image in images]
        return {output: np.array(rows, np.float32)}

    return NumpySession(compute, IMAGE_INPUTS)


def detector_session() -> NumpySession:
    """Finds the red and the green rectangle, each twice: once exactly, once a pixel off."""

    def candidates(image: NDArray[np.float32]) -> NDArray[np.float32]:
        columns = []
        for label in range(2):
            others = [c for c in range(3) if c != label]
            coloured = (image[label] > 0.9) & (image[others] < 0.1).all(axis=0)
            rows, across = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
            for shift, score in ((1, 0.6 - label / 10), (0, 0.9 - label / 10)):
                column = np.zeros(6)
                if rows.size:
                    left, right = across[0] + shift, across[-1] + 1 + shift
                    top, bottom = rows[0], rows[-1] + 1
                    column[:4] = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
                    column[4 + label] = score
                columns.append(column)
        return np.array(columns, np.float32).T

    def compute(feeds: Arrays) -> Arrays:
        assert feeds["images"].dtype == np.float32
        return {"output0": np.stack([candidates(image) for image in feeds["images"]])}

    return NumpySession(compute, DETECTOR_INPUTS)


def set_session() -> NumpySession:
    """Two queries: one finds what is red, one what is green, as shares of the unmasked image."""

    def query(image: NDArray[np.float32], label: int) -> tuple[list[float], list[float]]:
        others = [channel for channel in range(3) if channel != label]
        coloured = (image[label] > 0.9) & (image[others] < 0.1).all(axis=0)
        rows, across = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
        if not rows.size:
            return [0.0, 0.0, 3.0], [0.5, 0.5, 0.1, 0.1]
        height, width = coloured.shape
        left, right = across[0] / width, (across[-1] + 1) / width
        top, bottom = rows[0] / height, (rows[-1] + 1) / height
        logits = [0.0, 0.0, 0.0]
        logits[label] = 3.0
        return logits, [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]

    def compute(feeds: Arrays) -> Arrays:
        logits, boxes = [], []
        for image, mask in zip(feeds["pixel_values"], feeds["pixel_mask"], strict=True):
            height, width = mask.any(1).sum(), mask.any(0).sum()
            found = [query(image[:, :height, :width], label) for label in range(2)]
            logits.append([one for one, _ in found])
            boxes.append([box for _, box in found])
        return {"logits": np.float32(logits), "pred_boxes": np.float32(boxes)}

    return NumpySession(compute, SET_INPUTS)


def map_session() -> NumpySession:
    """Scores of black, red and green for each square of four by four pixels."""

    def compute(feeds: Arrays) -> Arrays:
        images = feeds["pixel_values"]
        count, _, height, width = images.shape
        squares = images.reshape(count, 3, height // 4, 4, width // 4, 4)
        red, green, _ = np.moveaxis(squares.mean(axis=(3, 5)), 1, 0)
        return {"logits": 4 * np.stack([np.full_like(red, 0.5), red, green], axis=1)}

    return NumpySession(compute, IMAGE_INPUTS)


def query_session() -> NumpySession:
    """Three queries: red, green and nothing, with a mask of squares of four by four pixels."""

    def compute(feeds: Arrays) -> Arrays:
        images = feeds["pixel_values"]
        count, _, height, width = images.shape
        squares = images.reshape(count, 3, height // 4, 4, width // 4, 4)
        masks = 8 * squares.mean(axis=(3, 5), dtype=np.float64) - 4
        logits = np.tile(np.array([[4, 0, 0], [0, 3, 0], [0, 0, 2]]), (count, 1, 1))
        return {"logits": logits.astype(np.float32), "pred_masks": masks.astype(np.float32)}

    return NumpySession(compute, IMAGE_INPUTS)


def object_session() -> NumpySession:
    """Finds the red and the green rectangle of one image as torchvision does, green twice."""

    def compute(feeds: Arrays) -> Arrays:
        (image,) = feeds.values()
        assert image.ndim == 3
        boxes, labels, scores = [], [], []
        masks = np.zeros((0, 1, *image.shape[1:]), np.float32)
        for label, score in ((1, 0.9), (2, 0.8), (2, 0.3)):
            others = [channel for channel in range(3) if channel != label - 1]
            coloured = (image[label - 1] > 0.9) & (image[others] < 0.1).all(axis=0)
            rows, across = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
            if rows.size:
                boxes.append([across[0], rows[0], across[-1] + 1, rows[-1] + 1])
                labels.append(label)
                scores.append(score)
                masks = np.concatenate([masks, 0.7 * coloured[None, None].astype(np.float32)])
        return {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "labels": np.array(labels, np.int64),
            "scores": np.array(scores, np.float32),
            "masks": masks,
        }

    return NumpySession(compute, {"image": TensorSpec("float32", (3, None, None))})


class TranslatorGraphs:
    """A translator of two layers whose next token depends on every token before it."""

    heads, width, layers = 2, 3, 2

    def __init__(self, vocabulary: int, eos_id: int, eos_bias: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        size = self.heads * self.width
        self.source = rng.normal(size=(64, self.layers, 2, size))
        self.target = rng.normal(size=(vocabulary, self.layers, 2, size))
        self.output = rng.normal(size=(size, vocabulary)) * 1.5
        self.bias = np.zeros(vocabulary)
        self.bias[eos_id] = eos_bias
        self.known: dict[tuple[bytes, tuple[int, ...]], NDArray[np.float32]] = {}

    def next_logprobs(self, source: NDArray[np.int64], prefix: list[int]) -> NDArray[np.float32]:
        """Return [V] for the tokens so far, start token included."""
        key = np.asarray(source).tobytes(), tuple(prefix)
        if key not in self.known:  # a search and its definition ask for the same
            places = np.arange(1, len(prefix) + 1)[:, None, None, None]
            self.known[key] = self._logprobs(self.target[prefix] * places, self.source[source])
        return self.known[key]

    def _logprobs(
        self, written: NDArray[np.float64], source: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """From what was written [P, layers, 2, size] and read [S, layers, 2, size]."""
        written, source = written.astype(np.float32), source.astype(np.float32)
        own = (written[:, :, 0] * written[:, :, 1]).sum(axis=(0, 1), dtype=np.float64)
        read = (source[:, :, 0] + 2 * source[:, :, 1]).mean(axis=(0, 1), dtype=np.float64)
        logits = np.sin(own + read) @ self.output + self.bias
        logits -= logits.max()
        return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def tensor_session() -> NumpySession:
    """Sums the rows of x that are kept, and counts them."""

    def compute(feeds: Arrays) -> Arrays:
        kept = feeds["x"] * feeds["keep"][:, :, None]
        return {"total": kept.sum(axis=1), "count": feeds["keep"].sum(axis=1, dtype=np.int64)}

    inputs = {"x": TensorSpec("float32", (None, 2, 3)), "keep": TensorSpec("bool", (None, 2))}
    outputs = {"total": TensorSpec("float32", (None, 3)), "count": TensorSpec("int64", (None,))}
    return NumpySession(compute, inputs, outputs)
