"""Compressed bodies: gzip and deflate, with a bound on what they inflate to."""

import asyncio
import zlib

from service.api.errors import MalformedRequestError
from service.errors import LimitExceededError, UnsupportedMediaTypeError

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib calls the three formats."""
_WINDOW = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}
_LEAST = 1024
"""Shorter answers are not compressed."""
_LEVEL = 1
_ON_LOOP = 64 * 1024
"""Bytes that are compressed or inflated on the event loop; more on a thread."""


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
    if len(names) > 1 or names[0] not in _WINDOW:
        raise UnsupportedMediaTypeError("the body must be sent as it is, or in gzip or deflate")
    window = _WINDOW[names[0]]
    if len(body) <= _ON_LOOP and most <= _ON_LOOP:
        return _inflate(body, window, most)
    return await asyncio.to_thread(_inflate, body, window, most)


def _inflate(body: bytes, window: int, most: int) -> bytes:
    is_zlib = len(body) > 1 and int.from_bytes(body[:2]) % 31 == 0 and body[0] & 15 == 8  # noqa: PLR2004
    if window == _ZLIB and not is_zlib:
        window = _RAW  # some clients send deflate without the header of zlib
    inflater = zlib.decompressobj(window)
    try:
        data = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise MalformedRequestError(f"the body cannot be decompressed: {error}") from None
    if len(data) > most:
        raise LimitExceededError(f"the body is over the limit of {most} bytes, decompressed")
    if not inflater.eof or inflater.unused_data:
        raise MalformedRequestError("the compressed body is not whole")
    return data


async def deflated(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """Return a response body in a coding that the client accepts, and the name of the coding.

    None as the name: the body is as it was.
    """
    coding = _preferred(accepted)
    if coding is None or len(body) < _LEAST:
        return body, None
    compressor = zlib.compressobj(_LEVEL, wbits=_WINDOW[coding])
    if len(body) <= _ON_LOOP:
        return compressor.compress(body) + compressor.flush(), coding
    packed = await asyncio.to_thread(lambda: compressor.compress(body) + compressor.flush())
    return packed, coding


def _preferred(accepted: bytes) -> bytes | None:
    offered = {}
    for part in accepted.lower().split(b","):
        name, _, quality = part.partition(b";")
        offered[name.strip()] = quality.replace(b" ", b"") not in (b"q=0", b"q=0.0")
    return next((name for name in (b"gzip", b"deflate") if offered.get(name)), None)
