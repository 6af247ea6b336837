"""A small application behind the real server, in the test's own event loop."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from service.api.certificate import Certificate
from service.api.connection import Protocol
from service.api.http_request import REFUSED, WHOLE_BODY
from service.api.listening import bind
from service.api.server import Server

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


class Application:
    """Answers "done" as soon as it may; tells what it was asked."""

    status = 200

    def __init__(self, may_answer: bool = True) -> None:
        self.may_answer = asyncio.Event()
        if may_answer:
            self.may_answer.set()
        self.asked = asyncio.Semaphore(0)
        self.events: list[str] = []
        self.found_whole_bodies: list[bool] = []
        self.asked_for: list[tuple[str, bytes]] = []
        """Paths and bodies of what was valid HTTP, in order."""
        self.refused: list[tuple[str, str]] = []
        """Codes and details of what was not valid HTTP."""
        self.server: Server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.found_whole_bodies.append(WHOLE_BODY in scope)
        body = await self._read(receive)
        if REFUSED in scope:
            kind, detail = scope[REFUSED]
            self.refused.append((kind.code, detail))
            await self._answer(send, 400, b"")
        elif body is not None:
            self.asked_for.append((scope["path"], body))
            self.asked.release()
            await self.may_answer.wait()
            await self._answer(send, self.status, b"done", (b"x-path", scope["path"].encode()))
            self.events.append("answered")

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.events.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    async def _read(self, receive: Any) -> bytes | None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body, more = body + message["body"], message["more_body"]
        return body

    async def _answer(self, send: Any, status: int, body: bytes, *headers: Any) -> None:
        head = [(b"content-length", b"%d" % len(body)), *headers]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running(
    app: Application, grace: int = 1, certificate: Certificate | None = None
) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """Serve on a free port until SIGTERM, which the end sends if the test has not."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        timeout_graceful_shutdown=grace,
    )
    app.server = server = Server(config, lambda: app.events.append("last"))
    server.certificate = certificate
    listeners = bind("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    serving = asyncio.create_task(server.serve(listeners))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no such event
        await asyncio.sleep(0.01)
    try:
        yield port, serving
    finally:
        if not serving.done():
            terminate()
        await serving


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(4) == b"done"
    return head.lower()


async def until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
