"""The service that a drill mistreats: a process of its own, looked at from outside."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from drills.http1 import NoAnswerError, NotHttpError, ask, post, request
from loadtest.service_process import Running, started

TOKEN = "only-for-this-drill"  # noqa: S105 - of a service on the loopback interface
ROOT = Path(__file__).parents[1]
STARTERS = ROOT / "models" / "repository"
_QUIET_LOG = {"QUARTET_LOGS__LEVEL": "warning"}
_SHORT_WARM_UP = {"QUARTET_MODELS__WARM_UP_SECONDS": "0.5"}


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    running: Running

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return self.running.port

    @property
    def is_alive(self) -> bool:
        """Return whether its process runs."""
        return self.running.process.poll() is None

    def resident(self) -> float:
        """Return its resident memory in MB."""
        return float(psutil.Process(self.running.process.pid).memory_info().rss) / 1e6

    def peak(self) -> float:
        """Return the most resident memory that it ever had, in MB; NaN where that is unknown."""
        status = Path(f"/proc/{self.running.process.pid}/status")
        if not status.exists():
            return math.nan
        lines = status.read_text().splitlines()
        return next(float(x.split()[1]) * 1024 / 1e6 for x in lines if x.startswith("VmHWM"))

    def descriptors(self) -> int:
        """Return how many file descriptors it has open."""
        return int(psutil.Process(self.running.process.pid).num_fds())

    async def metrics(self) -> Mapping[str, float]:
        """Return every series of /metrics with its value."""
        answer = await ask(self.port, request("GET", "/metrics"), method="GET")
        lines = answer.body.decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    async def total(self, metric: str) -> float:
        """Return the sum over all series of a metric."""
        series = await self.metrics()
        return sum(v for name, v in series.items() if name.partition("{")[0] == metric)

    async def answers(self) -> str:
        """Return what is wrong with the answer to a plain good request; empty if nothing."""
        text = f"Stocks fall at {time.monotonic_ns()}"
        try:
            answer = await ask(self.port, post("/v1/classify", {"text": text}), seconds=10)
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if answer.status == 200 else f"{answer.status} {answer.body[:200]!r}"

    async def visit_routes(self) -> None:
        """Ask every route once with every method, so that each has its series."""
        described = (await ask(self.port, request("GET", "/openapi.json"), method="GET")).json()
        for path in [*described["paths"], "/nowhere", "/docs", "/"]:
            plain = path.replace("{", "").replace("}", "")
            for method in ("GET", "POST", "OPTIONS"):
                await ask(self.port, request(method, plain), method=method)

    async def settles(self, metric: str, seconds: float = 10.0) -> float:
        """Wait until a gauge is 0; return its last value."""
        patience = time.monotonic() + seconds
        while value := await self.total(metric):
            if time.monotonic() > patience:
                break
            await asyncio.sleep(0.1)
        return value

    async def steady(self, seconds: float = 3.0) -> float:
        """Wait until the resident memory no longer falls and return it in MB."""
        before = self.resident()
        for _ in range(math.ceil(seconds / 0.5)):
            await asyncio.sleep(0.5)
            now = self.resident()
            if now > before - 1:
                return now
            before = now
        return before


@asynccontextmanager
async def serving(
    log: Path, settings: Mapping[str, str] | None = None, only: Sequence[str] = ()
) -> AsyncIterator[Service]:
    """Run a service on the starter models until the end of the block.

    Settings in the environment of the drill are ignored: every drill meets the same service.
    """
    chosen = {**_QUIET_LOG, **_SHORT_WARM_UP, "QUARTET_ADMIN__TOKEN": TOKEN}
    chosen |= settings or {}
    if only:
        chosen["QUARTET_MODELS__ONLY"] = ",".join(only)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QUARTET_")}
    running = await asyncio.to_thread(started, chosen | clean, log)
    try:
        yield Service(running)
    finally:
        await asyncio.to_thread(running.end)
