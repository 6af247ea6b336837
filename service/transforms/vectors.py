"""Vectors in fewer bytes. A vector's numbers depend on no other vector."""

import numpy as np
from numpy.typing import NDArray

_LARGEST = 127


def to_int8(vector: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Return a vector as int8, and the scale: numbers times scale give the vector back.

    The largest number of the vector becomes 127 or -127. Each number is off by at most half of
    the scale.
    """
    scale = float(np.abs(vector).max(initial=0)) / _LARGEST or 1.0
    numbers: NDArray[np.int8] = np.rint(vector.astype(np.float64) / scale).astype(np.int8)
    return numbers, scale


def to_bits(vector: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return one bit for each number, 1 where it is positive: eight to a byte, the first highest.

    Unused bits of the last byte are 0. sentence-transformers calls this "ubinary".
    """
    return np.packbits(vector > 0)
