"""An HTTP/1.1 client that hides nothing: bytes in, answers out, and how the connection ended."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ADDRESS = "127.0.0.1"
_LIMIT = 1 << 24
_NO_BODY = {204, 304}


class NotHttpError(Exception):
    """What was received is no HTTP response."""


class NoAnswerError(Exception):
    """The connection ended before a whole answer was received."""


class Ending(StrEnum):
    """How a connection ended."""

    OPEN = "open"
    CLOSED = "closed"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Return whether it says that the connection ends with it."""
        return "close" in self.headers.get("connection", "").lower()

    def json(self) -> Any:
        """Return the body's value; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def fault(self) -> str:
        """Return what a refusal lacks of a problem with a request id; empty if nothing.

        A path that belongs to a protocol answers in the protocol's own shape.
        """
        if self.status < 400:
            return ""
        if self.headers.get("content-type") == "application/json":
            return self._fault_of_protocol()
        return self._fault_of_problem()

    def _fault_of_problem(self) -> str:
        if self.headers.get("content-type") != "application/problem+json":
            return f"{self.status} is {self.headers.get('content-type')}, not a problem"
        problem = self.json()
        if not isinstance(problem, dict) or problem.get("status") != self.status:
            return f"{self.status} has no problem of that status"
        if not problem.get("code") or not problem.get("detail"):
            return f"{self.status} has a problem without code or detail"
        if problem.get("request_id") != self.headers.get("x-request-id", ""):
            return f"{self.status} has no request id, or two"
        return ""

    def _fault_of_protocol(self) -> str:
        body = self.json()
        if not isinstance(body, dict) or not (body.get("error") or body.get("message")):
            return f"{self.status} has no error in its JSON"
        return "" if self.headers.get("x-request-id") else f"{self.status} has no request id"


class Connection:
    """One connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> bool:
        """Send; return False if the other side has closed or reset the connection."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            return False
        return True

    async def answer(self, method: str = "POST") -> Answer:
        """Read the next final response.

        Raises:
            NoAnswerError: the connection ended first.
            NotHttpError: it is no response.
        """
        try:
            while (answer := await self._answer(method)).status < 200:
                pass
        except (asyncio.IncompleteReadError, OSError) as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error
        except (ValueError, IndexError) as error:
            raise NotHttpError(str(error)) from error
        return answer

    async def head(self) -> tuple[int, Mapping[str, str]]:
        """Read a status line and headers."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = lines[0].split(" ")
        if version != "HTTP/1.1":
            raise ValueError(f"not a status line: {lines[0][:80]!r}")
        pairs = (line.split(":", 1) for line in lines[1:-2])
        return int(status), {name.lower(): value.strip() for name, value in pairs}

    async def _answer(self, method: str) -> Answer:
        status, headers = await self.head()
        body = b""
        if status < 200 or status in _NO_BODY or method == "HEAD":
            pass
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(status, headers, body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks of a chunked body."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)

    async def ended(self, seconds: float) -> tuple[bytes, Ending]:
        """Read what is left and return it with how the connection ended within a time."""
        left = b""
        try:
            async with asyncio.timeout(seconds):
                while data := await self.reader.read(65536):
                    left += data
        except TimeoutError:
            return left, Ending.OPEN
        except OSError:
            return left, Ending.RESET
        return left, Ending.CLOSED

    def pause_reading(self) -> None:
        """Receive nothing from now on, so that the other side's answers pile up there."""
        transport = self.writer.transport
        if isinstance(transport, asyncio.ReadTransport):
            transport.pause_reading()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self.writer.write_eof()

    def reset(self) -> None:
        """Leave without a word: what is unsent is discarded, the other side gets a reset."""
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Connect, and close at the end of the block."""
    reader, writer = await asyncio.open_connection(ADDRESS, port, limit=_LIMIT)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {ADDRESS}"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(path: str, value: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole request with a JSON body."""
    body = json.dumps(value).encode()
    return request("POST", path, body, {"Content-Type": "application/json", **(headers or {})})


async def ask(port: int, data: bytes, *, method: str = "POST", seconds: float = 30.0) -> Answer:
    """Send one request on a connection of its own and return the answer.

    Raises:
        NoAnswerError, NotHttpError, OSError, TimeoutError: there was none.
    """
    async with asyncio.timeout(seconds), connected(port) as connection:
        await connection.send(data)
        return await connection.answer(method)
