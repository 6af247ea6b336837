"""Compressed bodies: gzip, deflate and zstd, with a bound on what they inflate to."""

import asyncio
import sys
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from service.api.errors import MalformedRequestError
from service.errors import LimitExceededError, UnsupportedMediaTypeError

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib calls the three formats."""
_WINDOW = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}
_ZSTD = b"zstd"
_PREFERRED = (_ZSTD, b"gzip", b"deflate")
"""Codings of answers; of those that a client accepts equally, the first."""
_LEVEL = 1
_ON_LOOP = 16 * 1024
"""Bytes that are compressed or inflated on the event loop; more on a thread."""
_LONGEST_HEADER = 256
"""Bytes of Accept-Encoding; a longer one is taken as none."""

_LARGEST_WINDOW = 8 * 2**20
"""Memory that a frame of zstd may ask for: what RFC 9659 allows a body."""
_ZSTD_PIECE = 128
"""Bytes of zstd decoded at once. They hold 32 blocks of 128 KiB, so 4 MiB, at most."""
_MOST_FRAMES = 1024
"""Frames of zstd in a body."""

_COMPRESSIBLE = (b"application/json", b"application/problem+json", b"text/", b"image/svg+xml")
_BINARY_TENSORS = b"application/octet-stream"


async def inflated(body: bytes, codings: bytes | None, most: int) -> bytes:
    """Return a body without its Content-Encoding.

    Raises:
        UnsupportedMediaTypeError: the coding is not supported.
        MalformedRequestError: the body is not in this coding.
        LimitExceededError: it inflates to more than `most` bytes.
    """
    names = [name for part in (codings or b"").lower().split(b",") if (name := part.strip())]
    names = [name for name in names if name != b"identity"]
    if not names:
        return body
    if len(names) > 1 or names[0] not in (*_WINDOW, _ZSTD):
        raise UnsupportedMediaTypeError(
            "the body must be sent as it is, or in gzip, deflate or zstd"
        )
    inflate: Callable[[bytes, bytes, int], bytes] = _inflate
    if names[0] == _ZSTD:
        inflate = _inflate_zstd
    if len(body) <= _ON_LOOP and most <= _ON_LOOP:
        return inflate(body, names[0], most)
    return await asyncio.to_thread(inflate, body, names[0], most)


def _inflate(body: bytes, name: bytes, most: int) -> bytes:
    window = _WINDOW[name]
    is_zlib = len(body) > 1 and int.from_bytes(body[:2]) % 31 == 0 and body[0] & 15 == 8  # noqa: PLR2004
    if window == _ZLIB and not is_zlib:
        window = _RAW  # some clients send deflate without the header of zlib
    inflater = zlib.decompressobj(window)
    try:
        data = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise _malformed(error) from None
    _check_size(len(data), most)
    if not inflater.eof or inflater.unused_data:
        raise MalformedRequestError("the compressed body is not whole")
    return data


def _inflate_zstd(body: bytes, name: bytes, most: int) -> bytes:
    import zstandard  # noqa: PLC0415 - many processes never need it

    decoder = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    data, frame, frames = bytearray(), decoder.decompressobj(), 1
    for start in range(0, len(body), _ZSTD_PIECE):
        rest = body[start : start + _ZSTD_PIECE]
        while rest:
            if frame.eof:
                frame, frames = decoder.decompressobj(), frames + 1
            try:
                data += frame.decompress(rest)
            except zstandard.ZstdError as error:
                raise _malformed(error) from None
            _check_size(len(data), most)
            if frames > _MOST_FRAMES:
                raise MalformedRequestError(f"the body has over {_MOST_FRAMES} frames of zstd")
            rest = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise MalformedRequestError("the compressed body is not whole")
    return bytes(data)


def _malformed(error: Exception) -> MalformedRequestError:
    return MalformedRequestError(f"the body cannot be decompressed: {error}")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise LimitExceededError(f"the body is over the limit of {most} bytes, decompressed")


async def deflated(body: bytes, coding: bytes) -> bytes:
    """Return a body in one of the codings that `preferred` names."""
    is_imported = coding != _ZSTD or "zstandard" in sys.modules
    if len(body) <= _ON_LOOP and is_imported:
        return _deflate(body, coding)
    return await asyncio.to_thread(_deflate, body, coding)


def _deflate(body: bytes, coding: bytes) -> bytes:
    if coding == _ZSTD:
        import zstandard  # noqa: PLC0415 - as above

        return zstandard.ZstdCompressor(level=_LEVEL).compress(body)
    compressor: Any = zlib.compressobj(_LEVEL, wbits=_WINDOW[coding])
    packed: bytes = compressor.compress(body) + compressor.flush()
    return packed


def is_compressible(content_type: bytes) -> bool:
    """Return whether bodies of a media type become shorter: those of images and videos do not."""
    return content_type.startswith((*_COMPRESSIBLE, _BINARY_TENSORS))


@lru_cache(maxsize=64)
def preferred(accepted: bytes) -> bytes | None:
    """Return the coding that suits an Accept-Encoding best; None means that of the body as it is.

    `*` stands for gzip and deflate, which every client knows.
    """
    if len(accepted) > _LONGEST_HEADER:
        return None
    weights = {}
    for part in accepted.lower().split(b","):
        name, *parameters = (text.strip() for text in part.split(b";"))
        weights[name] = _weight(parameters)
    others = weights.get(b"*", 0.0)
    found = {name: weights.get(name, 0.0 if name == _ZSTD else others) for name in _PREFERRED}
    best = max(_PREFERRED, key=found.__getitem__)
    return best if found[best] > 0 and found[best] >= weights.get(b"identity", 0.0) else None


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
