"""The right to run on a device: so many batches at once, whichever models they are of."""

import asyncio
from collections import deque


class Slots:
    """A first-come, first-served semaphore that can tell how many of its slots are free.

    The lanes of all models of a device share one, so that threads x running batches never
    exceed its cores. A lane asks once at a time; with one question a lane, first come is fair.
    """

    def __init__(self, threads: int, ahead: int = 0) -> None:
        """Make a slot for each batch that computes at once, and for each that is formed ahead."""
        if threads < 1:
            raise ValueError("a device needs at least one slot")
        self._threads = threads
        self._free = self._count = threads + ahead
        self._askers: deque[asyncio.Future[None]] = deque()
        self.overdue = 0
        """Slots held by runs that were told to stop and have not ended in time."""

    def __repr__(self) -> str:
        return f"<Slots {self._free} of {self._count} free, {len(self._askers)} asking>"

    @property
    def count(self) -> int:
        """Return how many slots there are."""
        return self._count

    @property
    def threads(self) -> int:
        """Return how many batches compute at once; the others wait for a thread."""
        return self._threads

    @property
    def free(self) -> int:
        """Return how many slots nobody holds."""
        return self._free

    @property
    def are_lost(self) -> bool:
        """Tell whether nothing can be computed, since every thread is held by an overdue run."""
        return self.overdue >= self._threads

    async def acquire(self) -> None:
        """Take a slot, waiting in line for it. Give it back with `release`."""
        if self._free and not self._askers:
            self._free -= 1
            return
        asker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        try:
            await asker
        except asyncio.CancelledError:
            if asker.done() and not asker.cancelled():  # it was handed over as we left
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to whoever has asked for longest."""
        while self._askers:
            asker = self._askers.popleft()
            if not asker.done():
                asker.set_result(None)
                return
        self._free += 1
