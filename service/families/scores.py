"""From logits to labels; shared by the classifiers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError
from service.tasks import Classification, Label
from service.types import Tensors, TensorSpec

_RANK = 2

Activation: TypeAlias = Literal["softmax", "sigmoid", "none"]
"""What makes scores of logits: one label of all, each label by itself, or the graph already."""


def check_labels(labels: Sequence[str]) -> None:
    """Check that there are labels. Raises ValueError.

    Labels may repeat, as they do in well-known data sets: ImageNet has two cranes, and COCO eleven
    that are "N/A". An answer then names both of them alike.
    """
    if not labels:
        raise ValueError("labels must be one or more names")


def check_top_k(top_k: int | None) -> None:
    """Check that at least one label is wanted. Raises InvalidInputError."""
    if top_k is not None and top_k < 1:
        raise InvalidInputError("top_k must be at least 1")


def ranked(
    logits: NDArray[Any], labels: Sequence[str], activation: Activation = "softmax"
) -> Sequence[Tensors]:
    """Return each row's scores in descending order, with the index of each one's label.

    Equal scores stay in the order in which the model names its labels.

    Raises:
        InferenceError: the graph gives another number of scores than there are labels, or one
            that is not finite (the batcher then finds out which row's).
    """
    if logits.ndim != _RANK:
        raise InferenceError(f"the graph gives scores of {logits.ndim} axes instead of {_RANK}")
    if logits.shape[1] != len(labels):
        raise InferenceError(f"the graph gives {logits.shape[1]} scores for {len(labels)} labels")
    logits = logits.astype(np.float32, copy=False)
    if not np.logical_and.reduce(np.isfinite(logits), axis=None):
        raise InferenceError("the graph gives a score that is not a finite number")
    scores = _scores(logits, activation)
    order = (-scores).argsort(axis=1, kind="stable")
    return [
        {"scores": row[places], "order": places} for row, places in zip(scores, order, strict=True)
    ]


def scores_problem(outputs: Mapping[str, TensorSpec], labels: Sequence[str]) -> str | None:
    """Return why a graph with these outputs cannot score these labels; None if it can."""
    if "logits" not in outputs and len(outputs) > 1:
        return f"the graph gives {', '.join(outputs)}, but no 'logits'"
    shape = outputs.get("logits", next(iter(outputs.values()))).shape
    if shape and len(shape) != _RANK:
        return f"the graph gives scores of {len(shape)} axes instead of {_RANK}"
    if shape and shape[1] not in (None, len(labels)):
        return f"the graph gives {shape[1]} scores for {len(labels)} labels"
    return None


def best_labels(result: Tensors, labels: Sequence[str], top_k: int | None) -> Classification:
    """Return the first labels of one row of `ranked`."""
    names = (labels[place] for place in result["order"][:top_k].tolist())
    return Classification(tuple(map(Label, names, result["scores"][:top_k].tolist())))


def _scores(logits: NDArray[np.float32], activation: Activation) -> NDArray[Any]:
    scores: NDArray[Any]
    match activation:
        case "softmax":
            # ufuncs directly: the methods of an array call them through Python.
            largest: NDArray[np.float32] = np.maximum.reduce(logits, axis=1, keepdims=True)
            exponentials = np.exp(logits - largest)
            sums: NDArray[np.float32] = np.add.reduce(exponentials, axis=1, keepdims=True)
            scores = exponentials / sums
        case "sigmoid":
            # In float32 all logits over 17 would score exactly 1, and rank alike.
            with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
                scores = np.reciprocal(1 + np.exp(-logits.astype(np.float64)))
        case "none":
            scores = logits
    return scores
