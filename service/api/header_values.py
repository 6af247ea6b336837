"""What the values of request headers mean."""

import math
import re
from collections.abc import Mapping

from service.api.errors import MalformedRequestError
from service.cache.responses import CacheMode

_NUMBER = re.compile(rb"-?[0-9]{1,9}")
_MOST_DIGITS = 15
_LOWEST, _HIGHEST = -10, 10
_BEARER = b"bearer"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id_in(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the id in `X-Request-Id`; None if there is none that can be logged."""
    wished = headers.get(b"x-request-id", b"")
    return wished.decode() if _SANE_ID.fullmatch(wished) else None


def seconds(milliseconds: bytes) -> float:
    """Return the seconds of an `X-Request-Timeout-Ms` header. Raises MalformedRequestError."""
    digits = milliseconds.lstrip(b"0")
    if not digits.isdigit():
        raise MalformedRequestError("X-Request-Timeout-Ms must be a whole number from 1")
    # The caller cuts it to the longest deadline; Python refuses to parse thousands of digits.
    return int(digits) / 1000 if len(digits) <= _MOST_DIGITS else math.inf


def priority(number: bytes) -> int:
    """Return the value of an `X-Request-Priority` header. Raises MalformedRequestError."""
    if not _NUMBER.fullmatch(number) or not _LOWEST <= int(number) <= _HIGHEST:
        raise MalformedRequestError(
            f"X-Request-Priority must be a whole number from {_LOWEST} to {_HIGHEST}"
        )
    return int(number)


def cache_mode(cache_control: bytes) -> CacheMode:
    """Return what a `Cache-Control` header asks for."""
    directives = {part.strip() for part in cache_control.lower().split(b",")}
    if b"no-store" in directives:
        return CacheMode.BYPASS
    return CacheMode.REFRESH if b"no-cache" in directives else CacheMode.USE


def key_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key of `X-API-Key`, or of `Authorization` with or without "Bearer".

    Any other scheme of `Authorization` is not a key.

    Args:
        headers: by lower-case name.
    """
    if key := headers.get(b"x-api-key"):
        return key
    first, _, rest = headers.get(b"authorization", b"").strip().partition(b" ")
    if not rest:
        return None if first.lower() == _BEARER else first
    return rest.strip() if first.lower() == _BEARER else None
