"""The wire format of protobuf, read in place: as much of it as ONNX files need.

Fields are found by number; their content is not copied.
"""

import mmap
from collections.abc import Iterator
from typing import TypeAlias

Bytes: TypeAlias = bytes | mmap.mmap

# Wire types; the other two are obsolete and not in onnx.proto.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_LONGEST_TAG = 5
_TAG_MASK = 0xFFFFFFFF
_MORE = 0x80


def fields(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, start, start of the value and end of every field of a message.

    Raises:
        ValueError: it is not a message.
    """
    while at < end:
        start = at
        tag, at = _varint(data, at, min(end, at + _LONGEST_TAG))
        kind = tag & 7
        if kind == _BYTES:
            size, at = _varint(data, at, end)
            after = at + size
        elif kind == _VARINT:
            after = _varint(data, at, end)[1]
        elif kind in (_FIXED64, _FIXED32):
            after = at + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"it has a field of unknown kind {kind}")
        if after <= end:
            yield (tag & _TAG_MASK) >> 3, kind, start, at, after
        at = after
    if at != end:
        raise ValueError("it is cut short")


def parts(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields that hold bytes. Raises ValueError."""
    for number, kind, _, value, after in fields(data, at, end):
        if kind == _BYTES:
            yield number, value, after


def numbers(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and value of the fields that hold integers. Raises ValueError."""
    for number, kind, _, value, after in fields(data, at, end):
        if kind == _VARINT:
            yield number, _varint(data, value, after)[0]


def packed(data: Bytes, at: int, end: int) -> Iterator[int]:
    """Yield the integers of a packed repeated field. Raises ValueError."""
    while at < end:
        value, at = _varint(data, at, end)
        yield value


def field_header(number: int, size: int) -> bytes:
    """Return what precedes `size` bytes in a field of this number."""
    return _written(number << 3 | _BYTES) + _written(size)


def varint_field(number: int, value: int) -> bytes:
    """Return a field that holds an integer of 0 to 2**64 - 1."""
    return _written(number << 3 | _VARINT) + _written(value)


def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for position in range(at, min(end, at + _LONGEST_VARINT)):
        byte = data[position]
        value |= (byte & ~_MORE) << (7 * (position - at))
        if byte < _MORE:
            return value, position + 1
    raise ValueError("it is cut short")


def _written(value: int) -> bytes:
    made = bytearray()
    while value >= _MORE:
        made.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    made.append(value)
    return bytes(made)
