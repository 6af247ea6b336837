"""Connections to live sources: what FFmpeg reads, opened and closed by us.

FFmpeg itself opens files only, and RTSP through a relay. So a source cannot make it open another
host, and a connection can be closed while a thread waits for it.
"""

import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Protocol, TypeAlias

from typing_extensions import override

from service.errors import InvalidInputError
from service.live.address import Address
from service.live.rtsp import RtspRelay
from service.transforms.vision.video_file import ByteSource, Source

READ_SECONDS = 10.0
"""A source that sends nothing for so long is lost."""
_CONNECT_SECONDS = 5.0
_OK = 200
_REDIRECTS = range(300, 400)


class Connection(Protocol):
    """A connection to a source, for one thread; `close` may be called from another."""

    has_own_pace: bool
    """Whether its frames arrive when they are made; else they are read by their time stamps."""

    def open(self) -> Source:
        """Connect. Raises InvalidInputError."""
        ...

    @property
    def problem(self) -> str | None:
        """Return why the connection ended, if the source did not end it."""
        ...

    def close(self) -> None:
        """Disconnect; a thread that reads gets the end."""
        ...

    def release(self) -> None:
        """Free everything, once no thread reads any more."""
        ...


def connection_to(address: Address) -> Connection:
    """Return a connection to a source, which is not open yet."""
    match address.scheme:
        case "file":
            return FileConnection(address)
        case "rtsp":
            return RtspRelay(address, _CONNECT_SECONDS, READ_SECONDS)
        case _:
            return HttpConnection(address)


class FileConnection(Connection):
    """A file."""

    has_own_pace = False
    problem = None

    def __init__(self, address: Address) -> None:
        self._file = address.file

    @override
    def open(self) -> Path:
        if not self._file.is_file():  # a pipe could not be closed while a thread opens it
            raise InvalidInputError("the source is not a file")
        return self._file

    @override
    def close(self) -> None:
        return

    @override
    def release(self) -> None:
        return


_HTTP: TypeAlias = Callable[..., HTTPConnection]


class HttpConnection(Connection, ByteSource):
    """The body of a response to GET. Redirects are not followed."""

    has_own_pace = True
    problem: str | None = None

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._response: HTTPResponse | None = None
        self._is_closed = False

    @override
    def open(self) -> "HttpConnection":
        try:
            self._response = response = self._respond()
        except (OSError, HTTPException) as error:
            raise InvalidInputError(f"the source cannot be reached: {_reason(error)}") from None
        if response.status in _REDIRECTS:
            raise InvalidInputError("the source redirects to another address; that is not followed")
        if response.status != _OK:
            raise InvalidInputError(f"the source answers with HTTP status {response.status}")
        return self

    def _respond(self) -> HTTPResponse:
        address = self._address
        headers = {"User-Agent": "quartet", "Accept": "*/*", "Connection": "close"}
        if address.user is not None:
            credentials = f"{address.user}:{address.password or ''}".encode()
            headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
        connection = self._connection()
        connection.connect()
        self._socket = connection.sock
        self._socket.settimeout(READ_SECONDS)
        if self._is_closed:
            self.close()
        target = f"{address.path}?{address.query}" if address.query else address.path
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _connection(self) -> HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._address.scheme == "https":
            secure = ssl.create_default_context()
            return HTTPSConnection(host, port, timeout=_CONNECT_SECONDS, context=secure)
        return HTTPConnection(host, port, timeout=_CONNECT_SECONDS)

    @override
    def read(self, size: int) -> bytes:
        """Return what has arrived; nothing at the end, whose reason is `problem`."""
        assert self._response is not None  # noqa: S101 - for mypy
        try:
            return self._response.read1(size)
        except (OSError, HTTPException, ValueError) as error:
            if not self._is_closed:
                self.problem = f"the source is lost: {_reason(error)}"
            return b""

    @override
    def close(self) -> None:
        self._is_closed = True
        if self._socket is not None:
            with suppress(OSError):  # below TLS, whose state belongs to the thread that reads
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @override
    def release(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._socket is not None:
            self._socket.close()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it sends nothing"
    return str(getattr(error, "strerror", None) or type(error).__name__)
