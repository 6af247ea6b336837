"""The wire format of protobuf, read in place: enough of it for ONNX files.

Values are found by number and never copied; what is not asked for is skipped unread.
"""

import mmap
from collections.abc import Iterator
from typing import TypeAlias

Bytes: TypeAlias = bytes | mmap.mmap

# How protobuf writes a field; its other two kinds are obsolete and not in onnx.proto.
_VARINT_KIND, _FIXED64_KIND, _BYTES_KIND, _FIXED32_KIND = 0, 1, 2, 5
_LONGEST_VARINT = 10
_LONGEST_TAG = 5
_TAG_MASK = 0xFFFFFFFF
_MORE = 0x80


def parts(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a message that hold bytes.

    Raises:
        ValueError: it is not a message.
    """
    while at < end:
        number, kind, at = _tag(data, at, end)
        if kind == _BYTES_KIND:
            size, at = _varint(data, at, end)
            if at + size <= end:
                yield number, at, at + size
            at += size
        else:
            at = _after_number(data, at, end, kind)
    if at != end:
        raise ValueError("it is cut short")


def fields(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, start, start of the value and end of every field of a message.

    Raises:
        ValueError: it is not a message.
    """
    while at < end:
        start = at
        number, kind, at = _tag(data, at, end)
        if kind == _BYTES_KIND:
            size, at = _varint(data, at, end)
            after = at + size
        else:
            after = _after_number(data, at, end, kind)
        if after <= end:
            yield number, start, at, after
        at = after
    if at != end:
        raise ValueError("it is cut short")


def field_header(number: int, size: int) -> bytes:
    """Return what stands before so many bytes in a field of this number."""
    return _written(number << 3 | _BYTES_KIND) + _written(size)


def numbers(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield number and value of the fields of a message that hold whole numbers.

    Raises:
        ValueError: it is not a message.
    """
    while at < end:
        number, kind, at = _tag(data, at, end)
        if kind == _VARINT_KIND:
            value, at = _varint(data, at, end)
            yield number, value
        elif kind == _BYTES_KIND:
            size, at = _varint(data, at, end)
            at += size
        else:
            at = _after_number(data, at, end, kind)
    if at != end:
        raise ValueError("it is cut short")


def _tag(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    tag, at = _varint(data, at, min(end, at + _LONGEST_TAG))
    return (tag & _TAG_MASK) >> 3, tag & 7, at


def _after_number(data: Bytes, at: int, end: int, kind: int) -> int:
    if kind == _VARINT_KIND:
        return _varint(data, at, end)[1]
    if kind == _FIXED64_KIND:
        return at + 8
    if kind == _FIXED32_KIND:
        return at + 4
    raise ValueError(f"it has a field of unknown kind {kind}")


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
