"""Lets several loads run at the same time, but none while one of them measures."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager


class LoadTurns:
    """Takes turns between loads that open or compare, several at once, and one that measures.

    What waits to measure goes first, so that the first model of many is ready early.
    """

    def __init__(self, most: int) -> None:
        """Allow at most `most` loads that do not measure at the same time."""
        self._most = most
        self._working = self._waiting = 0
        self._is_measuring = False
        self._changed = asyncio.Event()
        self._begun = self._running = 0

    def __repr__(self) -> str:
        state = "measuring" if self._is_measuring else f"{self._working} working"
        return f"<LoadTurns {state}, {self._waiting} wait to measure>"

    @contextmanager
    def load(self) -> Iterator[Callable[[], bool]]:
        """Count a load; the function tells whether no other one has run at the same time."""
        was_alone = not self._running
        self._running += 1
        self._begun += 1
        number = self._begun
        try:
            yield lambda: was_alone and self._begun == number
        finally:
            self._running -= 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Wait for a turn that others may share if they do not measure."""
        await self._until(lambda: self._working < self._most and not self._waiting)
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._wake()

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Wait until nothing else opens, compares or measures."""
        self._waiting += 1
        try:
            await self._until(lambda: not self._working)
            self._is_measuring = True
        finally:
            self._waiting -= 1
            self._wake()
        try:
            yield
        finally:
            self._is_measuring = False
            self._wake()

    async def _until(self, may_begin: Callable[[], bool]) -> None:
        while self._is_measuring or not may_begin():
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
