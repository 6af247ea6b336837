"""From logits to labels; what the classifiers have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError
from service.tasks import Classification, Label
from service.types import Tensors


def check_labels(labels: Sequence[str]) -> None:
    """Refuse no labels, and two of the same name. Raises ValueError."""
    if not labels or len(set(labels)) < len(labels):
        raise ValueError("labels must be one or more different names")


def check_top_k(top_k: int | None) -> None:
    """Refuse a number of labels below one. Raises InvalidInputError."""
    if top_k is not None and top_k < 1:
        raise InvalidInputError("top_k must be at least 1")


def probabilities(logits: NDArray[Any], labels: Sequence[str]) -> Sequence[Tensors]:
    """Return each row's softmax.

    Raises:
        InferenceError: the graph gives another number of scores than there are labels.
    """
    if logits.shape[1] != len(labels):
        raise InferenceError(f"the graph gives {logits.shape[1]} scores for {len(labels)} labels")
    logits = logits.astype(np.float32, copy=False)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    return [{"scores": row} for row in scores]


def best_labels(scores: NDArray[Any], labels: Sequence[str], top_k: int | None) -> Classification:
    """Return the labels by descending score; equal ones in the order the model names them."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return Classification(tuple(Label(labels[index], float(scores[index])) for index in order))
