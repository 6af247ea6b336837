"""Whether the rows of a batch are computed independently of one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import DeviceMemoryError, InferenceError
from service.types import Model, PreparedItem, Sessions, Tensors

_TOLERANCE = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-6}
"""Largest difference of a row alone and in a batch, relative to its largest value."""


def is_independent(
    model: Model, sessions: Sessions, items: Sequence[PreparedItem], alone: Sequence[Tensors]
) -> bool:
    """Run items as one batch; return whether each has the result that it has alone.

    Args:
        model: of a family.
        sessions: of the model.
        items: of equal shapes, with different values.
        alone: their results, each run alone.
    """
    try:
        together = model.infer(sessions, items)
    except (InferenceError, DeviceMemoryError):
        return False
    return all(
        one.keys() == other.keys() and all(_is_close(one[name], other[name]) for name in one)
        for one, other in zip(alone, together, strict=True)
    )


def _is_close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    finite = np.abs(one[np.isfinite(one)].astype(np.float64))
    most = _TOLERANCE[one.dtype.name] * float(finite.max(initial=0.0))
    return bool(np.isclose(one, other, rtol=0, atol=most, equal_nan=True).all())
