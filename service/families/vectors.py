"""From a graph's hidden states to one vector per item; shared by the embedders."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError
from service.tasks import Embedding, EmbedItem
from service.types import Tensors

ImagePooling: TypeAlias = Literal["none", "cls", "mean"]

TokenPooling: TypeAlias = Literal[
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"
]
"""The names that sentence-transformers uses."""

_TOKENS, _MAP = 3, 4
_ONE = np.ones(1)
_UNIT_TOLERANCE = 1e-3
"""Of a length that counts as 1: what a graph normalises in half precision is off by 5e-4."""


def results_of(
    vectors: NDArray[Any], *, normalizes: bool = True, kept: int | None = None
) -> Sequence[Tensors]:
    """Return {"embedding": vector, "length": of the vector before it was scaled} for each row.

    Args:
        vectors: [B, D].
        normalizes: whether the model scales vectors to unit length; a row of zeros stays one.
        kept: how many numbers of the scaled vector the model keeps; None means all.
    """
    if not normalizes:
        return [{"embedding": row[:kept], "length": _ONE} for row in vectors]
    doubles = vectors.astype(np.float64)  # squares of float32 would overflow, or vanish
    lengths = np.sqrt((doubles * doubles).sum(axis=1))
    lengths[lengths == 0] = 1
    scaled = (doubles / lengths[:, None]).astype(np.float32)
    return [
        {"embedding": row[:kept], "length": length}
        for row, length in zip(scaled, lengths[:, None], strict=True)
    ]


def embedding_of(result: Tensors, item: EmbedItem) -> Embedding:
    """Return the answer for a result of `results_of`, as the item asks for it.

    Raises:
        InvalidInputError: the item asks for more dimensions than the model has, or for a form
            that it does not give.
    """
    if item.form != "vector":
        raise InvalidInputError(f"this model gives one vector for an item, and no {item.form}")
    vector = result["embedding"]
    if item.dimensions is None and item.normalize is None:
        # A copy: the vector is a view, which would keep its whole batch alive in the cache.
        return Embedding(vector.copy())
    if item.dimensions is not None and not 0 < item.dimensions <= vector.size:
        raise InvalidInputError(
            f"dimensions is {item.dimensions}; the vectors of this model have {vector.size}"
        )
    normalizes = item.normalize
    if normalizes is None:
        length = float(np.linalg.norm(vector.astype(np.float64)))
        normalizes = abs(length - 1) < _UNIT_TOLERANCE
    kept = vector[: item.dimensions].astype(np.float64)
    if normalizes:
        kept /= np.linalg.norm(kept) or 1
    elif item.normalize is not None:
        kept *= result["length"]
    return Embedding(kept.astype(np.float32))


def token_vectors_of(result: Tensors, item: EmbedItem) -> Embedding:
    """Return the vectors of a text's tokens, {"tokens": [T, D]}, as the item asks for them.

    Raises:
        InvalidInputError: the item asks for more dimensions than the model has.
    """
    vectors = result["tokens"]
    if item.dimensions is not None and not 0 < item.dimensions <= vectors.shape[1]:
        raise InvalidInputError(
            f"dimensions is {item.dimensions}; the vectors of this model have {vectors.shape[1]}"
        )
    kept = vectors[:, : item.dimensions]
    if item.normalize:
        lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
        kept = kept / np.where(lengths == 0, 1, lengths)
    return Embedding(np.ascontiguousarray(kept, np.float32))


def sparse_of(result: Tensors, item: EmbedItem) -> Embedding:
    """Return the sparse vector of a result of {"indices": ..., "values": ...}.

    Raises:
        InvalidInputError: the item asks for something that such vectors do not have.
    """
    if item.dimensions is not None or item.normalize is not None:
        raise InvalidInputError("sparse vectors are neither shortened nor scaled")
    return Embedding(result["values"], result["indices"])


def sparse_result(weights: NDArray[Any]) -> Tensors:
    """Return the positive numbers of a row of weights [V], and their places."""
    indices = np.flatnonzero(weights > 0)
    return {
        "indices": indices.astype(np.int32),
        "values": weights[indices].astype(np.float32),
    }


def pooled_images(
    output: NDArray[Any], pooling: ImagePooling, prefix_tokens: int
) -> NDArray[np.float32]:
    """Return one vector an image, [B, D].

    Args:
        output: vectors [B, D] or [B, D, 1, 1], tokens [B, T, D], or a map [B, D, H, W].
        pooling: none where they are vectors already, else the first token, or the mean of the
            tokens or of the map.
        prefix_tokens: how many tokens at the start stand for no part of the image.

    Raises:
        InferenceError: the output has another number of axes than the pooling is for.
    """
    if pooling == "none" and output[0].size == output.shape[1]:
        vectors = output.reshape(len(output), -1)
    elif pooling == "cls" and output.ndim == _TOKENS:
        vectors = output[:, 0]
    elif pooling == "mean" and output.ndim == _TOKENS:
        vectors = output[:, prefix_tokens:].mean(axis=1, dtype=np.float64)
    elif pooling == "mean" and output.ndim == _MAP:
        vectors = output.mean(axis=(2, 3), dtype=np.float64)
    else:
        raise InferenceError(f"an output of shape {output.shape} cannot be pooled by {pooling}")
    floats: NDArray[np.float32] = vectors.astype(np.float32, copy=False)
    return floats


def pooled_tokens(
    states: NDArray[Any], mask: NDArray[np.int64], pooling: TokenPooling
) -> NDArray[np.float32]:
    """Return one vector a text, [B, D], as the pooling of sentence-transformers does.

    Args:
        states: [B, T, D].
        mask: [B, T], 1 where a token counts; each row has at least one.
        pooling: the first token that counts, the last one, their largest values, their mean, or
            their mean weighted by place or scaled by the square root of their number.

    Raises:
        InferenceError: the states have another number of axes.
    """
    if states.ndim != _TOKENS:
        raise InferenceError(f"an output of shape {states.shape} is no states of tokens")
    rows = np.arange(len(states))
    if pooling == "cls":
        vectors = states[rows, mask.argmax(axis=1)]
    elif pooling == "lasttoken":
        vectors = states[rows, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]
    elif pooling == "max":
        vectors = np.where(mask[:, :, None] == 1, states, -np.inf).max(axis=1)
    else:
        weights = mask.astype(np.float64)
        if pooling == "weightedmean":
            weights = weights * np.arange(1, mask.shape[1] + 1)
        count = weights.sum(axis=1, keepdims=True)
        divisor = np.sqrt(count) if pooling == "mean_sqrt_len_tokens" else count
        # One row at a time, without padding: a sum must not depend on the rest of the batch.
        sums = [
            kept[kept > 0] @ row[kept > 0].astype(np.float64)
            for kept, row in zip(weights, states, strict=True)
        ]
        vectors = np.stack(sums) / divisor
    floats: NDArray[np.float32] = vectors.astype(np.float32, copy=False)
    return floats
