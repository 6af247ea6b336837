"""Tensors of the protocol: datatypes, JSON values and raw bytes."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError, LimitExceededError

DATATYPES: Mapping[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "string",
}
"""numpy's name by datatype."""
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_AXES = 32
_MOST_STRINGS = 65_536
_LENGTH_BYTES = 4
_HALF = 2
"""Bytes of a float16, which orjson does not write."""
_STRINGS, _BYTES = {str}, {bytes}
_OTHER_KINDS: Mapping[str, set[type]] = {"B": {bool}, "F": {int, float}}
"""JSON values of datatypes that do not hold integers, by their first letter."""


class InputTensor(NamedTuple):
    """One input of a request."""

    shape: Sequence[int]
    values: NDArray[Any] | list[bytes] | list[str]
    """Numbers are an array of this shape, strings a flat list; it holds `str` if they came as
    JSON, where an image is base64."""

    @property
    def array(self) -> NDArray[Any]:
        """Return the values as an array of this shape; strings are `bytes` of dtype object."""
        if not isinstance(self.values, list):
            return self.values
        strings = [one.encode() if isinstance(one, str) else one for one in self.values]
        return np.array(strings, object).reshape(self.shape)


def datatype_of(dtype: str) -> str:
    """Return the datatype of numpy's name of a type. Raises KeyError."""
    return _NAMES[dtype]


def datatype_of_array(array: NDArray[Any]) -> str:
    """Return the datatype of a tensor."""
    return "BYTES" if array.dtype.hasobject else _datatype_of(array.dtype)


@lru_cache(maxsize=32)  # numpy builds the name of a type at each call
def _datatype_of(dtype: np.dtype[Any]) -> str:
    return _NAMES[dtype.name]


def check_shape(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return the number of elements of an input. Raises InvalidInputError."""
    if datatype not in DATATYPES:
        known = ", ".join(DATATYPES)
        raise InvalidInputError(f"input {name!r}: unknown datatype {datatype[:20]!r}; use {known}")
    if len(shape) > _MOST_AXES:
        raise InvalidInputError(f"input {name!r} has {len(shape)} axes; at most {_MOST_AXES}")
    if min(shape, default=0) < 0:
        raise InvalidInputError(f"input {name!r}: a size in its shape is negative")
    return prod(shape)


def from_raw(
    name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview
) -> InputTensor:
    """Return a tensor from its bytes: little-endian, row-major.

    Raises:
        InvalidInputError: the bytes are not those of a tensor of this type and shape.
        LimitExceededError: there are too many strings.
    """
    count = check_shape(name, datatype, shape)
    if datatype == "BYTES":
        return InputTensor(shape, _strings(name, count, bytes(data)))
    dtype = np.dtype(DATATYPES[datatype]).newbyteorder("<")
    if len(data) != count * dtype.itemsize:
        raise InvalidInputError(
            f"input {name!r} needs {count * dtype.itemsize} bytes for {datatype} of shape "
            f"{list(shape)}, and has {len(data)}"
        )
    if datatype == "BOOL":
        array = np.frombuffer(data, np.uint8).astype(bool)
    else:
        array = np.frombuffer(data, dtype)
        array = array if array.flags.aligned else array.copy()
    return InputTensor(shape, array.reshape(shape))


def _strings(name: str, count: int, data: bytes) -> list[bytes]:
    _check_strings(name, count)
    strings: list[bytes] = []
    at, end = 0, len(data)
    while at + _LENGTH_BYTES <= end and len(strings) < count:
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "little")
        strings.append(data[begin:at])
    if at != end or len(strings) != count:
        raise InvalidInputError(
            f"input {name!r}: its bytes are not {count} strings, each after its length in 4 bytes"
        )
    return strings


def _check_strings(name: str, count: int) -> None:
    if count > _MOST_STRINGS:
        raise LimitExceededError(f"input {name!r} has {count} strings; at most {_MOST_STRINGS}")


def from_values(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> InputTensor:
    """Return a tensor from JSON values, flat or nested as its shape.

    Raises:
        InvalidInputError: the values are not those of a tensor of this type and shape.
        LimitExceededError: there are too many strings.
    """
    count = check_shape(name, datatype, shape)
    flat = values if len(shape) == 1 else _flattened(name, shape, values)
    if len(flat) != count:
        raise InvalidInputError(
            f"input {name!r} has {len(flat)} values; its shape {list(shape)} needs {count}"
        )
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        _check_strings(name, count)
        if kinds != _STRINGS and not kinds <= _BYTES:
            raise InvalidInputError(f"input {name!r}: the values of BYTES must be strings")
        return InputTensor(shape, flat)
    allowed: set[type] = {int}
    if datatype[0] in _OTHER_KINDS:
        allowed = _OTHER_KINDS[datatype[0]]
    if not kinds <= allowed:
        raise InvalidInputError(f"input {name!r}: a value is not of the datatype {datatype}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, DATATYPES[datatype])
    except OverflowError:
        raise InvalidInputError(f"input {name!r}: a value is out of range of {datatype}") from None
    return InputTensor(shape, array.reshape(shape))


def _flattened(name: str, shape: Sequence[int], values: list[Any]) -> list[Any]:
    level = values
    for size in shape[1:]:
        if not level or not isinstance(level[0], list):
            break
        if any(not isinstance(one, list) or len(one) != size for one in level):
            raise InvalidInputError(f"input {name!r}: its lists are not nested as its shape says")
        level = list(chain.from_iterable(level))
    return level


def to_raw(array: NDArray[Any]) -> bytes:
    """Return a tensor as `from_raw` reads it."""
    if array.dtype.hasobject:
        strings: list[bytes] = array.ravel().tolist()
        return b"".join(
            chain.from_iterable(
                (len(one).to_bytes(_LENGTH_BYTES, "little"), one) for one in strings
            )
        )
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def to_values(name: str, array: NDArray[Any]) -> Any:
    """Return the flat values of an output for JSON; orjson writes numpy arrays as lists.

    Raises:
        InferenceError: JSON cannot express a value.
    """
    flat = array.ravel()
    if array.dtype.hasobject:
        try:
            return [one.decode() for one in flat.tolist()]
        except UnicodeDecodeError:
            raise InferenceError(
                f"output {name!r} holds bytes that JSON cannot express: ask for binary data"
            ) from None
    if array.dtype.kind != "f":
        return flat
    # The ufunc itself: the method `all` costs as much as the rest of this function.
    if not np.logical_and.reduce(np.isfinite(flat)):
        raise InferenceError(
            f"output {name!r} holds NaN or infinity, which JSON cannot express: ask for binary data"
        )
    return flat.astype(np.float32) if array.itemsize == _HALF else flat
