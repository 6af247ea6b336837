"""Requests that are not valid HTTP, by the parser or by their head (RFC 9112, 2.3, 3.2, 6)."""

import logging
import re
from collections.abc import Sequence

import httptools

from service.api.errors import (
    HttpVersionError,
    MalformedRequestError,
    NotImplementedHereError,
)
from service.errors import ServiceError

_log = logging.getLogger(__name__)

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_VERSIONS = ("1.1", "1.0")

MOST_HEADERS = 256
"""Headers of one request. Short ones take twenty times their bytes in memory."""
TOO_MANY_HEADERS = f"a request may have {MOST_HEADERS} headers"


def check_head(version: str, method: str, headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Return the length of the body; None if it is chunked.

    Args:
        version: of the protocol, "1.1" or another.
        method: in capitals.
        headers: lower-case names, unchanged values.

    Raises:
        HttpVersionError: the version is neither 1.0 nor 1.1.
        MalformedRequestError: Host or Transfer-Encoding violates the RFC, or there are too many
            headers.
        NotImplementedHereError: CONNECT, or a transfer coding other than chunked.
    """
    if version not in _VERSIONS:
        raise HttpVersionError("the version of HTTP must be 1.0 or 1.1")
    if method == "CONNECT":
        raise NotImplementedHereError("this server is not a proxy and opens no tunnels")
    _check_count(headers)
    hosts, length, codings = [], 0, b""
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":  # at most one, and a number: the parser refuses others
            length = int(value)
        elif name == b"transfer-encoding":
            codings = b"%b,%b" % (codings, value) if codings else value
    _check_hosts(version, hosts)
    if not codings:
        return length
    _check_codings(version, codings)
    return None


def _check_count(headers: Sequence[tuple[bytes, bytes]]) -> None:
    if len(headers) > MOST_HEADERS:
        raise MalformedRequestError(TOO_MANY_HEADERS)


def _check_hosts(version: str, hosts: Sequence[bytes]) -> None:
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise MalformedRequestError("a request must have one header Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise MalformedRequestError("the header Host is not the name of a host")


def _check_codings(version: str, codings: bytes) -> None:
    if version == "1.0":
        raise MalformedRequestError("HTTP/1.0 has no Transfer-Encoding")
    names = [coding.strip(b" \t").lower() for coding in codings.split(b",")]
    if names == [b"chunked"]:
        return
    if names[-1] != b"chunked" or names.count(b"chunked") > 1:
        raise MalformedRequestError("a request's Transfer-Encoding must end with chunked, once")
    raise NotImplementedHereError("of the Transfer-Encodings only chunked is read here")


def refusal_of(error: httptools.HttpParserError) -> tuple[type[ServiceError], str]:
    """Return the error for a request that the parser refused: its class and its message."""
    match error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error:
        case ServiceError() as refusal:
            return type(refusal), str(refusal)
        case httptools.HttpParserInvalidURLError() | UnicodeError():
            return MalformedRequestError, "the target of the request is not valid"
        case httptools.HttpParserError():
            return MalformedRequestError, f"the request is not valid HTTP: {error}"
        case other:
            _log.error("request not parsed", exc_info=other)
            return ServiceError, "the request could not be parsed"
