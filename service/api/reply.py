"""A response whose bytes are ready."""

from collections.abc import Iterable
from typing import TypeAlias

from starlette.responses import Response

Header: TypeAlias = tuple[bytes, bytes]


class Reply(Response):
    """Starlette's response without what it would work out again: headers, length, encoding."""

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        content_type: bytes = b"application/json",
        headers: Iterable[Header] = (),
    ) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]
