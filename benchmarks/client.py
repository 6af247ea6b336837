"""A load generator of ours: HTTP/1.1 over raw sockets, closed loop or open loop.

For machines without wrk, and for what wrk cannot do: arrivals that do not wait for answers,
latencies by status. It runs in a process of its own, whose processor time is reported:

    echo '{"port": 8000, ...}' | python -m benchmarks.client
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks.target import HOST, Target

_now = time.perf_counter  # uvloop's own clock only counts milliseconds

_MOST_CONNECTIONS = 4096
_PATIENCE = 60.0
"""Seconds that answers may take once the last request is sent."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, how, and for how long."""

    target: Target
    seconds: float
    concurrency: int | None = None
    """Closed loop: number of connections; each sends a request after the previous answer."""
    rate: float | None = None
    """Open loop: mean rate per second, at random times, independent of the answers."""
    seed: int = 0

    def dumps(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def loads(cls, text: str) -> "Plan":
        """Read what `dumps` wrote."""
        values = json.loads(text)
        target = values.pop("target")
        target["bodies"] = Path(target["bodies"])
        return cls(Target(**target), **values)


@dataclass(slots=True)
class Seen:
    """What came back."""

    latencies: dict[int, list[float]]
    """Seconds by status, open loop from the time the request was due."""
    errors: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, status: int, latency: float) -> None:
        """Record one answer."""
        self.latencies.setdefault(status, []).append(latency)


class Connection(asyncio.Protocol):
    """One keep-alive connection; at most one request is on its way."""

    def __init__(self, on_reply: Callable[["Connection", int], None]) -> None:
        self._on_reply = on_reply
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._expected: int | None = None
        self._status = 0
        self.due = 0.0
        """When the request on its way was due; 0 if none is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only

    @property
    def is_open(self) -> bool:
        """Tell whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self.due = due
        self._transport.write(request)

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Collect one response; report it when it is whole."""
        self._received += data
        if self._expected is None:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._status, length, is_last = parse_head(bytes(self._received[:end]))
            self._expected = end + 4 + length
            if is_last:
                self.close()
        if len(self._received) < self._expected:
            return
        self._received.clear()
        self._expected = None
        self._reply(self._status)

    def connection_lost(self, error: Exception | None) -> None:
        """Report a request that will have no answer as status 0."""
        if self.due:
            self._reply(0)

    def _reply(self, status: int) -> None:
        self._on_reply(self, status)


def parse_head(head: bytes) -> tuple[int, int, bool]:
    """Return status, length of the body, and whether the connection ends after it.

    Raises:
        ValueError: the body's length is not said in a way that is read here.
    """
    status = int(head[9:12])
    lines = head.lower().split(b"\r\n")
    lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    if not lengths and any(line.startswith(b"transfer-encoding:") for line in lines):
        raise ValueError("chunked responses are not read")
    return status, lengths[0] if lengths else 0, b"connection: close" in lines


class Generator:
    """Carries out a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = plan.target.requests()
        self._next = 0
        self.seen = Seen({})
        self._on_their_way = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._reopening: set[asyncio.Future[None]] = set()
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        self._late: deque[float] = deque()
        self._opened = 0
        self._ends = 0.0

    async def run(self) -> Seen:
        """Send everything, wait for the answers, and return them."""
        cpu, started = time.process_time(), _now()
        self._ends = started + self._plan.seconds
        if self._plan.concurrency is not None:
            for _ in range(self._plan.concurrency):
                await self._open(_now())
        else:
            await self._send_on_time(started)
        await asyncio.sleep(max(0.0, self._ends - _now()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._all_answered.wait()
        self.seen.errors += self._on_their_way
        for connection in self._connections:
            connection.close()
        self.seen.seconds = _now() - started
        self.seen.cpu_seconds = time.process_time() - cpu
        return self.seen

    async def _send_on_time(self, started: float) -> None:
        """Send each request at its time; a late one is still counted from when it was due."""
        for due in arrivals(self._plan.rate or 0.0, self._plan.seconds, self._plan.seed):
            if started + due > _now():
                await asyncio.sleep(started + due - _now())
            elif self._next % 64 == 0:
                await asyncio.sleep(0)  # behind, but answers must still be read
            if (idle := self._idle_connection()) is not None:
                self._send(idle, started + due)
            elif self._opened < _MOST_CONNECTIONS:
                await self._open(started + due)
            else:
                self._late.append(started + due)

    def _idle_connection(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            self._opened -= 1
        return None

    async def _open(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._opened += 1
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self._replied), HOST, self._plan.target.port
            )
        except OSError:
            self._opened -= 1
            self.seen.errors += 1
            return
        self._connections.append(connection)
        self._send(connection, due)

    def _send(self, connection: Connection, due: float) -> None:
        self._on_their_way += 1
        self._all_answered.clear()
        connection.send(self._requests[self._next % len(self._requests)], due)
        self._next += 1

    def _replied(self, connection: Connection, status: int) -> None:
        now = _now()
        if status:
            self.seen.add(status, now - connection.due)
        else:
            self.seen.errors += 1
        connection.due = 0.0
        self._on_their_way -= 1
        if self._on_their_way == 0:
            self._all_answered.set()
        if self._plan.concurrency is None:
            self._reuse(connection)
        elif now >= self._ends:
            connection.close()
        elif connection.is_open:
            self._send(connection, now)
        else:
            self._reopening.add(asyncio.ensure_future(self._open(now)))

    def _reuse(self, connection: Connection) -> None:
        if not connection.is_open:
            self._opened -= 1
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._idle.append(connection)


def arrivals(rate: float, seconds: float, seed: int) -> Sequence[float]:
    """Return random times at which requests arrive, as many a second on average as `rate`."""
    draw = random.Random(seed)
    found = []
    at = draw.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += draw.expovariate(rate)
    return found


def report(seen: Seen) -> Mapping[str, Any]:
    """Return what was seen as JSON takes it."""
    latencies = {
        str(status): [round(value, 6) for value in values]
        for status, values in seen.latencies.items()
    }
    return asdict(seen) | {"latencies": latencies}


def main() -> None:
    """Read a plan, carry it out, write what was seen."""
    plan = Plan.loads(sys.stdin.read())
    try:
        import uvloop  # noqa: PLC0415 - half the cost where there is one

        run: Callable[..., Seen] = uvloop.run
    except ImportError:
        run = asyncio.run
    sys.stdout.write(json.dumps(report(run(Generator(plan).run()))))


if __name__ == "__main__":
    main()
