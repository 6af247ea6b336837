"""Arrays of strings as plain memory: their bytes, one after the other, and their lengths.

Arrays of Python objects cannot be sent to another process, and numpy's own arrays of strings take
the length of the longest string for each.
"""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.types import Tensors

_LENGTHS = "\0lengths"
"""Added to the name of a tensor of strings, for the tensor of their lengths."""


def pack(name: str, tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """Return a tensor as one or two arrays without Python objects; strings are `bytes`."""
    if not tensor.dtype.hasobject:
        return {name: tensor}
    strings: list[bytes] = tensor.ravel().tolist()
    lengths = np.array([len(string) for string in strings], np.int64)
    data = np.frombuffer(b"".join(strings), np.uint8)
    return {name: data, name + _LENGTHS: lengths.reshape(tensor.shape)}


def unpack(name: str, tensors: Tensors) -> NDArray[Any]:
    """Return a copy of the tensor that `pack` packed under this name."""
    lengths = tensors.get(name + _LENGTHS)
    if lengths is None:
        return tensors[name].copy()
    data = tensors[name].tobytes()
    ends = accumulate(lengths.ravel().tolist(), initial=0)
    strings = [data[begin:end] for begin, end in pairwise(ends)]
    return np.array(strings, object).reshape(lengths.shape)


def byte_size(name: str, tensors: Tensors) -> int:
    """Return the bytes that a packed tensor takes."""
    lengths = tensors.get(name + _LENGTHS)
    return tensors[name].nbytes + (0 if lengths is None else lengths.nbytes)
