"""When a frame of a live stream may enter the queue of its model.

Each stream has at most one frame in the queue and keeps only its newest one outside, so what has to
wait is replaced, and does not get old. How many streams may have a frame in the queue is adapted:
more if frames are answered within half the time to the next frame, else fewer. Streams enter in
the order in which they asked, so a stream that was served waits for all others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_SHARE = 0.5
"""Of the time between two frames, in which a frame is to be answered."""
_FIRST = 2.0


@dataclass(slots=True)
class Turns:
    """The turns of all streams of a model."""

    allowed: float = _FIRST
    """How many streams may have a frame in the queue; the whole part counts."""
    running: int = 0
    _waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)

    @asynccontextmanager
    async def turn(self, interval: float, most: int) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs.

        Args:
            interval: seconds between two frames of the stream.
            most: frames in the queue, of all streams.
        """
        await self._enter()
        loop = asyncio.get_running_loop()
        started, others_wait = loop.time(), bool(self._waiting)
        try:
            yield
        finally:
            self.running -= 1
            if loop.time() - started > _SHARE * interval:
                self.allowed -= 1 / self.allowed
            elif others_wait or self._waiting:
                self.allowed += 1 / self.allowed
            self.allowed = max(1.0, min(self.allowed, float(most)))
            self._admit()

    async def _enter(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.running -= 1
            else:
                with suppress(ValueError):
                    self._waiting.remove(place)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self.running < int(self.allowed):
            place = self._waiting.popleft()
            if not place.done():
                self.running += 1
                place.set_result(None)
