"""A Lua script that requests run in Redis, all of it at once or not at all."""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import NamedTuple, TypeAlias

from redis.exceptions import ResponseError

from service.cache.link import Link, LinkError

Numbers: TypeAlias = Sequence[int]

_MOST_WAITING = 1024
_BATCH = 64
"""Calls sent together at most."""


class ScriptCall(NamedTuple):
    """Arguments of one run."""

    keys: Sequence[str]
    arguments: Sequence[int]


class _Ask(NamedTuple):
    call: ScriptCall
    found: "asyncio.Future[Numbers | None]"

    def answer(self, found: Numbers | None) -> None:
        if not self.found.done():  # or the caller has left
            self.found.set_result(found)


class RedisScript:
    """Runs a script on a connection of its own. Any fault of the server is no answer."""

    def __init__(self, link: Link, script: str, timeout: float) -> None:
        """Make one that is not connected: nothing is answered until `open`.

        Args:
            link: used by nothing else.
            script: takes keys and whole numbers, and returns a list of whole numbers.
            timeout: the longest that a call waits, in seconds.
        """
        self._link, self._script, self._timeout = link, script, timeout
        self._digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._asks = asyncio.Queue[_Ask](_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to connect."""
        self._task = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Disconnect. Calls that wait are not answered."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._link.close()
        self._release()

    async def run(self, call: ScriptCall) -> Numbers | None:
        """Return the script's numbers; None, without waiting for it, if Redis is not there."""
        if not self._link.is_ready:
            return None
        ask = _Ask(call, asyncio.get_running_loop().create_future())
        try:
            self._asks.put_nowait(ask)
            async with asyncio.timeout(self._timeout):
                return await ask.found
        except (TimeoutError, asyncio.QueueFull):
            return None

    async def _serve(self) -> None:
        while True:
            await self._link.connect()
            asks = [await self._asks.get()]
            while len(asks) < _BATCH and not self._asks.empty():
                asks.append(self._asks.get_nowait())
            await self._answer([ask for ask in asks if not ask.found.done()])
            if not self._link.is_ready:
                self._release()

    async def _answer(self, asks: Sequence[_Ask]) -> None:
        replies: Sequence[object] = [None] * len(asks)
        try:
            if asks:
                calls = [(ask.call.keys, ask.call.arguments) for ask in asks]
                replies = await self._link.evaluate(self._script, self._digest, calls)
        except LinkError:
            pass
        finally:  # also when this task is cancelled, so that no request waits for it
            for ask, reply in zip(asks, replies, strict=True):
                ask.answer(_numbers(reply))

    def _release(self) -> None:
        while not self._asks.empty():
            self._asks.get_nowait().answer(None)


def _numbers(reply: object) -> Numbers | None:
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return None
    return reply if all(isinstance(item, int) for item in reply) else None
