"""The service on its starter models, in this process, and ways to hold up each of its steps."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi import FastAPI
from starlette.types import Message

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.http_request import HttpRequest
from service.app import Engine, build_engine
from service.live.address import AllowedSources
from service.live.streams import LiveStreams
from service.page.page import page_routes
from service.protocols import protocol_routes
from service.settings import read_settings

ROOT = Path(__file__).parents[3]
STARTERS = ROOT / "models" / "repository"
STARTER_NAMES = ("cards", "digits", "emoji", "news-topics", "zh-en")
SAMPLES = ROOT / "service" / "page" / "samples"
TOKEN = "correct-horse"
MOST_VIDEO = 1_000_000
QUEUE = 8
"""Items that may wait for a model."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class Visit:
    """One request to the application, and what its client does."""

    method: str
    path: str
    body: bytes = b""
    headers: Headers = ()
    query: bytes = b""
    never_ends: bool = False
    """Whether the rest of the body never comes."""
    status: int = 0
    code: str | None = None
    """Of the problem that was answered."""
    told: bytes = b""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first part of the answer has come."""
    _unread: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [self.body[i : i + 65536] for i in range(0, len(self.body), 65536)] or [b""]
        self._unread = [
            {
                "type": "http.request",
                "body": part,
                "more_body": self.never_ends or i + 1 < len(parts),
            }
            for i, part in enumerate(parts)
        ]

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query,
            "headers": list(self.headers),
        }

    async def receive(self) -> Message:
        if self._unread:
            return self._unread.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        if body := message.get("body", b""):
            self.told += body
            self.heard.set()

    def answered(self, status: int) -> None:
        """Check the status of the answer."""
        assert self.status == status, (self.status, self.told[:500])


@dataclass
class Bench:
    """A running service."""

    api: FastAPI
    context: ApiContext
    engine: Engine

    async def ask(self, visit: Visit) -> Visit:
        """Let the application answer, as far as it does."""
        await self.api(visit.scope(), visit.receive, visit.send)
        return visit

    async def leave(self, visit: Visit, begun: asyncio.Event | None = None, turns: int = 5) -> None:
        """Ask, and leave once the answer has begun, or after some turns of the event loop."""
        asking = asyncio.create_task(self.ask(visit))
        if begun is not None:
            await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not asking.done(), "it was answered before its client left"
        visit.left.set()
        await asking

    def pending(self, model: str) -> int:
        """Return how many items wait for a model."""
        batchers = self.engine.registry._serving[model].pipeline.engines
        return sum(batcher.statistics().pending for batcher in batchers.values())

    async def settled(self) -> None:
        """Wait until what the last request began in the background has ended."""
        for pool in (self.engine.runtime.compute, self.engine.runtime.preprocess):
            await _drained(pool)
        while draining := self.engine.registry._draining._tasks:
            await asyncio.wait(draining.values())
        await asyncio.sleep(0.02)

    @asynccontextmanager
    async def no_slot(self) -> AsyncIterator[None]:
        """Keep every batch in its queue, and short items off the event loop."""
        slots = self.engine.runtime.slots
        for _ in range(slots.count):
            await slots.acquire()
        try:
            with patch.object(slots, "inline_pause", lambda: 0.01):
                yield
        finally:
            for _ in range(slots.count):
                slots.release()

    def no_compute(self) -> Any:
        """Keep batches that have a slot from being computed."""
        return _blocked(self.engine.runtime.compute)

    def no_preprocessing(self) -> Any:
        """Keep what wants a thread from being preprocessed."""
        return _blocked(self.engine.runtime.preprocess)


async def _drained(pool: Executor) -> None:
    """Wait until the threads of a pool have let go of their last piece of work."""
    count = pool._max_workers  # type: ignore[attr-defined]
    barrier = threading.Barrier(count)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, barrier.wait) for _ in range(count)))


@contextmanager
def _blocked(pool: Executor) -> Iterator[None]:
    gate = threading.Event()
    for _ in range(pool._max_workers):  # type: ignore[attr-defined]
        pool.submit(gate.wait)
    try:
        yield
    finally:
        gate.set()


@asynccontextmanager
async def bench(repository: Path) -> AsyncIterator[Bench]:
    """Serve a repository until the block ends."""
    settings = read_settings(
        {},
        {
            "models.repository": str(repository),
            "models.only": ",".join(STARTER_NAMES),
            "models.precision": "fp32",
            "models.device": "cpu",
            "models.warm_up_seconds": "0.02",
            "batching.max_queue_size": str(QUEUE),
            "server.grace_seconds": "5",
        },
    )
    engine = build_engine(settings)
    context = ApiContext(
        registry=engine.registry,
        lifecycle=Lifecycle(),
        limits=ApiLimits(max_body_bytes=200_000, max_video_bytes=MOST_VIDEO),
        admin_token=TOKEN,
        streams=LiveStreams(AllowedSources([f"file://{SAMPLES}"])),
    )
    with patch.object(HttpRequest, "watch_after", 0.005):  # or each that leaves would take 0.2 s
        async with engine.running() as registry:
            registry.start()
            while registry.not_ready():  # noqa: ASYNC110 - it has no such event
                await asyncio.sleep(0.05)
            yield Bench(
                build_api(context, None, [*protocol_routes(), *page_routes()]), context, engine
            )
            await context.streams.close()


def json_of(path: str, value: Any, *headers: tuple[bytes, bytes], **more: Any) -> Visit:
    """Return a request with a JSON body."""
    kind = (b"content-type", b"application/json")
    return Visit("POST", path, json.dumps(value).encode(), (kind, *headers), **more)
