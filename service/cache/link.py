"""One connection to Redis, owned by one task.

It connects in the background and reports when it is ready. After any fault it drops the connection
and connects again: a reply that arrives after its timeout must not be taken for the next one.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from service.telemetry.metrics import RESPONSE_CACHE_BREAKER_OPEN


class BreakerState(StrEnum):
    """What a breaker thinks of its server."""

    CLOSED = "closed"
    """The server works: use it."""
    OPEN = "open"
    """It does not: leave it alone until the cool-down is over."""
    HALF_OPEN = "half_open"
    """One try is out to see whether it works again."""


class Breaker:
    """Opens after some faults in a row; tries again once per cool-down.

    closed --max_faults in a row--> open --cool-down over, first try--> half open
    half open --success--> closed;  half open --fault--> open
    """

    def __init__(self, max_faults: int, cool_down: float, clock: Callable[[], float]) -> None:
        """Make a closed breaker.

        Args:
            max_faults: faults in a row, with no success between them, that open it.
            cool_down: seconds from opening to the next try.
            clock: seconds that never go back.

        Raises:
            ValueError: an argument is not positive.
        """
        if max_faults <= 0 or cool_down <= 0:
            raise ValueError("max_faults and cool_down must be positive")
        self._max_faults, self._cool_down, self._clock = max_faults, cool_down, clock
        self._state = BreakerState.CLOSED
        self._faults = 0
        self._retry_at = 0.0

    @property
    def state(self) -> BreakerState:
        """Return what it thinks of the server."""
        return self._state

    def ask(self) -> float:
        """Ask for leave to try; return the seconds to wait and ask again, 0.0 for leave now.

        Leave from an open breaker is given to one asker per cool-down, and makes it half open.
        An asker who never reports back holds up the others for one more cool-down, no longer.
        """
        if self._state is BreakerState.CLOSED:
            return 0.0
        now = self._clock()
        if now < self._retry_at:
            return self._retry_at - now
        self._state = BreakerState.HALF_OPEN
        self._retry_at = now + self._cool_down
        return 0.0

    def succeeded(self) -> None:
        """Note that the server answered."""
        self._faults = 0
        self._state = BreakerState.CLOSED

    def failed(self) -> None:
        """Note a fault. What fails late, after the breaker opened, does not prolong its wait."""
        self._faults += 1
        if self._state is BreakerState.OPEN:
            return
        if self._state is BreakerState.HALF_OPEN or self._faults >= self._max_faults:
            self._state = BreakerState.OPEN
            self._retry_at = self._clock() + self._cool_down

    def __repr__(self) -> str:
        return f"<Breaker {self._state}, {self._faults} faults in a row>"


_log = logging.getLogger(__name__)


class LinkError(Exception):
    """Redis did not answer, not in time, or not what was asked."""


class Link:
    """A connection that is either ready or on its way to be."""

    def __init__(
        self,
        connection: AbstractConnection,
        names: "NameLookup",
        breaker: Breaker,
        probe: str,
        timeouts: tuple[float, float],
    ) -> None:
        """Make a link that is not connected.

        Args:
            connection: not connected, and not used elsewhere.
            names: how the server's name is resolved.
            breaker: shared by all links to the server.
            probe: a key; the link is ready when looking it up was answered in time.
            timeouts: of a look-up, and of everything else, in seconds.
        """
        self._connection, self._names, self._breaker = connection, names, breaker
        self._probe, (self._fetch_timeout, self._io_timeout) = probe, timeouts
        self._ready = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Tell whether it is connected, as far as is known."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Return when it is connected."""
        await self._ready.wait()

    async def connect(self) -> None:
        """Try until it is connected, at the pace that the breaker allows."""
        while not self.is_ready:
            if (pause := self._breaker.ask()) > 0:
                await asyncio.sleep(pause)
                continue
            with suppress(LinkError):
                await self._try_to_connect()

    async def fetch(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, None where there is none. Raises LinkError."""
        await self._renew_if_closed()
        async with self._exchange(self._fetch_timeout):
            return await self._look_up(keys)

    async def store(self, entries: Sequence[tuple[str, bytes]], ttl_ms: Sequence[int]) -> int:
        """Store every entry and return how many the server refused. Raises LinkError."""
        commands = [
            ("SET", key, value, "PX", ttl)
            for (key, value), ttl in zip(entries, ttl_ms, strict=True)
        ]
        await self._renew_if_closed()
        async with self._exchange(self._io_timeout):
            await self._send(commands)
            replies = [await self._reply() for _ in commands]
        return sum(isinstance(reply, ResponseError) for reply in replies)

    async def evaluate(
        self, script: str, digest: str, calls: Sequence[tuple[Sequence[str], Sequence[int]]]
    ) -> list[Any]:
        """Run a Lua script for each call, keys and arguments, and return the replies.

        A reply may be a ResponseError. Raises LinkError.
        """

        def commands(name: str, which: str, of: Sequence[int]) -> list[tuple[str | int, ...]]:
            return [(name, which, len(calls[i][0]), *calls[i][0], *calls[i][1]) for i in of]

        await self._renew_if_closed()
        async with self._exchange(self._fetch_timeout):
            await self._send(commands("EVALSHA", digest, range(len(calls))))
            replies = [await self._reply() for _ in calls]
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                await self._send(commands("EVAL", script, unknown))
                for i in unknown:
                    replies[i] = await self._reply()
            await self._connection.can_read()  # raises if more came than was asked for
        return replies

    async def close(self) -> None:
        """Drop the connection. The task that runs `connect` must have ended."""
        self._ready.clear()
        with suppress(Exception):
            await self._connection.disconnect(nowait=True)

    def __repr__(self) -> str:
        return f"<Link {'ready' if self.is_ready else 'not connected'}>"

    async def _renew_if_closed(self) -> None:
        """Connect again, once, if the server closed the connection while it was idle.

        A restart of the server then causes no miss. Data that was not requested is a fault.
        """
        try:
            if self.is_ready and not await self._connection.can_read():
                return
        except InvalidResponse as error:
            await self._fail(error)
            raise LinkError from error
        except Exception:  # noqa: S110 - one that is closed may also say so by raising
            pass
        await self.close()
        await self._try_to_connect()

    async def _try_to_connect(self) -> None:
        try:
            await self._names.resolve(self._io_timeout)
            async with asyncio.timeout(self._io_timeout):
                await self._connection.connect()  # type: ignore[no-untyped-call]
            # only a server that answers as fast as it will have to is worth asking
            async with asyncio.timeout(self._fetch_timeout):
                await self._look_up([self._probe])
        except Exception as error:
            await self._fail(error)
            raise LinkError from error
        if self._breaker.state is not BreakerState.CLOSED:
            # while it is closed, connecting does not make up for faults: a server that
            # accepts and then fails must open it in the end
            self._succeed()
        self._ready.set()

    @asynccontextmanager
    async def _exchange(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except Exception as error:
            await self._fail(error)
            raise LinkError from error
        self._succeed()

    async def _look_up(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._send([("MGET", *keys)])
        values = await self._connection.read_response()
        if not isinstance(values, list) or len(values) != len(keys):
            raise LinkError("not the reply to what was asked")
        if not all(value is None or isinstance(value, bytes) for value in values):
            raise LinkError("a reply of other things than values")
        await self._connection.can_read()  # raises if more came than was asked for
        return values

    async def _send(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> None:
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as refusal:  # the replies after it are still to be read
            return refusal

    def _succeed(self) -> None:
        if self._breaker.state is not BreakerState.CLOSED:
            _log.info("redis answers again")
            RESPONSE_CACHE_BREAKER_OPEN.set(0)
        self._breaker.succeeded()

    async def _fail(self, error: Exception) -> None:
        was = self._breaker.state
        self._breaker.failed()
        if was is BreakerState.CLOSED and self._breaker.state is BreakerState.OPEN:
            RESPONSE_CACHE_BREAKER_OPEN.set(1)
            _log.warning("redis does not answer: %s", str(error) or type(error).__name__)
        await self.close()


class NameLookup:
    """Resolves the server's name, one look-up at a time for all links.

    A look-up cannot be cancelled: it holds its thread until the resolver gives up. A second one at
    the same time would hold another thread of the shared pool.
    """

    def __init__(self, address: Mapping[str, Any]) -> None:
        """Take the `host` and `port` of an address; one without a host needs no look-up."""
        self._host, self._port = address.get("host"), address.get("port")
        self._running: asyncio.Future[Any] | None = None

    async def resolve(self, seconds: float) -> None:
        """Return when the name can be resolved. Raises OSError, TimeoutError."""
        if self._host is None:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._look_up())
            # a failure that comes after the wait is of no interest to anybody
            self._running.add_done_callback(lambda late: late.cancelled() or late.exception())
        await asyncio.wait({self._running}, timeout=seconds)
        if not self._running.done():
            raise TimeoutError(f"resolving {self._host} takes long")
        self._running.result()

    def close(self) -> None:
        """Stop waiting for the resolver."""
        if self._running is not None and not self._running.done():
            self._running.cancel()

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
