"""One hostile request head, what its answers may be, and the parts that heads are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

HOST = b"Host: 127.0.0.1"
BODY = b'{"text": "Stocks fall as oil prices slide"}'
POST = b"POST /v1/classify HTTP/1.1"
GET = b"GET /health/live HTTP/1.1"
JSON = b"Content-Type: application/json"
SMUGGLED = GET + b"\r\n" + HOST + b"\r\nX-Request-Id: smuggled\r\n\r\n"
REFUSED = frozenset(range(400, 500))
ANY = frozenset({200, 204}) | REFUSED
OK = frozenset({200})
UNKNOWN_CODING = REFUSED | {501}
UNKNOWN_VERSION = ANY | {505}


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent on one connection and which answers are right."""

    kind: str
    packets: Sequence[bytes]
    statuses: frozenset[int]
    """Statuses that an answer may have."""
    answers: int = 1
    """Answers that must come; the fewest, where `is_open_ended`."""
    method: str = "GET"
    ids: Sequence[str] = ()
    """Request ids that the answers must carry, in order."""
    is_open_ended: bool = False
    """Whether the bytes may be an incomplete request, or more than one: the sender half-closes."""


def head(*lines: bytes) -> bytes:
    """Return a head of these lines."""
    return b"\r\n".join([*lines, b"", b""])


def post(*lines: bytes, body: bytes = BODY, start: bytes = POST) -> bytes:
    """Return a JSON request with these headers in addition to Host and Content-Type."""
    return head(start, HOST, JSON, *lines) + body


def length(body: bytes = BODY) -> bytes:
    """Return the Content-Length of a body."""
    return b"Content-Length: %d" % len(body)


def chunked(body: bytes = BODY) -> bytes:
    """Return a body as one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
