"""The HTTP border on a real socket, in front of the fake registry, in a thread of this process."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.connection import Protocol
from service.api.turns import Turns
from tests.unit.api.fakes import FakePipeline, FakeRegistry


@dataclass
class HttpServer:
    """Where it listens, and what stands behind it."""

    port: int
    context: ApiContext
    registry: FakeRegistry
    loop: asyncio.AbstractEventLoop

    def pipeline(self, task: str, modality: str) -> FakePipeline:
        return self.registry.pipelines[task, modality]  # type: ignore[index]

    def has(self, event: asyncio.Event, within: float = 60.0) -> bool:
        """Wait, from the test's thread, for an event of the server's loop."""

        async def wait() -> bool:
            try:
                await asyncio.wait_for(event.wait(), within)
            except TimeoutError:
                return False
            return True

        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result()

    def passes(self, pipeline: FakePipeline) -> None:
        """Let the deadline of the texts "wait" pass."""
        self.loop.call_soon_threadsafe(pipeline.late.set)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def serving(limits: ApiLimits) -> Iterator[HttpServer]:
    """Serve until the end of the block."""

    class Sharing(Protocol):
        """A connection as `service.api.server` makes it."""

        turns = Turns()

    registry = FakeRegistry()
    context = ApiContext(registry, Lifecycle(), limits, "token")
    config = uvicorn.Config(
        build_api(context),
        http=Sharing,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    loops: list[asyncio.AbstractEventLoop] = []
    ready = threading.Event()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(ready.set)
        await server.serve([listening])

    thread = threading.Thread(target=lambda: _run(config, serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield HttpServer(listening.getsockname()[1], context, registry, loops[0])
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
        assert not thread.is_alive()


def _run(config: uvicorn.Config, main: Any) -> None:
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(main)


def head(path: str, length: int | None, *headers: str) -> bytes:
    """Return the head of a JSON request, as bytes for a socket; without a length it is chunked."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: quartet", "Content-Type: application/json", size]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def request(path: str, body: Any, *headers: str) -> bytes:
    """Return a whole JSON request, as bytes for a socket."""
    encoded = json.dumps(body).encode()
    return head(path, len(encoded), *headers) + encoded


@dataclass
class Answer:
    """A response as read from a socket."""

    status: int
    headers: dict[str, str]
    body: Any


def read_answer(connection: socket.socket) -> Answer:
    """Read one response."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, json.loads(response.read()))
