"""The right to compute on a device, and the runs that hold it after they were stopped."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from math import inf

from service.telemetry.meters import Meter

# ONNX Runtime checks between two nodes whether it should stop, so only a single long node takes
# longer than this.
STOP_SECONDS = 0.5


# Single short items that run on the event loop's thread while batches compute take at most this
# share of its time.
_INLINE_SHARE = 0.2


class Usage:
    """How much of a device a lane has used, in seconds, as it counts for its next slot."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


class Slots:
    """A semaphore that shares a device fairly, and knows how many of its slots are free.

    All lanes of all models on a device share one, so that threads times running batches never
    exceeds the number of cores. Of the lanes that wait, the one that has computed for the shortest
    time gets the next slot; of equals, the first. Time in which a lane has nothing to do is not
    saved up (start-time fair queueing).
    """

    def __init__(
        self, threads: int, ahead: int = 0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Make a slot for each thread, and for each batch formed before a thread is free."""
        if threads < 1:
            raise ValueError("a device needs at least one slot")
        self.threads = threads
        """How many batches compute at once; further ones wait for a thread."""
        self.count = self.free = threads + ahead
        """All slots, and the free ones. Plain attributes: they are read for every item."""
        self._clock, self._busy, self._changed_at = clock, 0.0, clock()
        self._waiters: deque[tuple[Usage, asyncio.Future[None]]] = deque()
        self._virtual_time = 0.0
        """The use of the lane that got the last slot."""
        self._inline_at = -inf
        self.inline_seconds = 0.0
        """Time of runs on the event loop's thread, which take no slot."""
        self.overdue = 0
        """Slots held by runs that were stopped and have not ended in time."""

    def __repr__(self) -> str:
        return f"<Slots {self.free} of {self.count} free, {len(self._waiters)} waiting>"

    @property
    def running(self) -> int:
        """Return how many batches compute now, without those formed ahead."""
        return min(self.count - self.free, self.threads)

    @property
    def busy_seconds(self) -> float:
        """Return how long batches have computed so far, over all threads."""
        return self.inline_seconds + self._busy + self.running * (self._clock() - self._changed_at)

    @property
    def are_lost(self) -> bool:
        """Return whether every thread is held by an overdue run, so that nothing can compute."""
        return self.overdue >= self.threads

    async def acquire(self, usage: Usage | None = None, is_busy: bool = False) -> None:
        """Take a slot, in the order of use. Give it back with `release`.

        Args:
            usage: of the lane; None is a lane that has computed nothing.
            is_busy: whether the lane has work in progress, so that it was not idle.
        """
        usage = usage or Usage()
        if not is_busy:
            usage.seconds = max(usage.seconds, self._virtual_time)
        if self.free and not self._waiters:
            self._virtual_time = max(self._virtual_time, usage.seconds)
            self._change(-1)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((usage, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # the slot arrived with the cancellation
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the task whose lane has used the least."""
        while self._waiters:
            first = min(range(len(self._waiters)), key=lambda i: self._waiters[i][0].seconds)
            usage, waiter = self._waiters[first]
            del self._waiters[first]
            if not waiter.done():
                self._virtual_time = max(self._virtual_time, usage.seconds)
                waiter.set_result(None)
                return
        self._change(1)

    def inline_pause(self) -> float:
        """Return the seconds until a single short item may run while batches compute."""
        return max(0.0, self._inline_at - self._clock())

    def pause_inline(self, seconds: float) -> None:
        """Have short items wait: a run that should take so long has ended on the event loop."""
        self._inline_at = self._clock() + seconds * (1 / _INLINE_SHARE - 1)

    def _change(self, free: int) -> None:
        now = self._clock()
        self._busy += self.running * (now - self._changed_at)
        self._changed_at = now
        self.free += free


class Overdue:
    """Counts one model's overdue runs, in its metrics and on the device's slots."""

    def __init__(self, slots: Slots, meter: Meter) -> None:
        self._slots, self._meter = slots, meter
        self._stopped: dict[Hashable, asyncio.TimerHandle] = {}
        self._late: set[Hashable] = set()

    @property
    def count(self) -> int:
        """Return how many runs are overdue now."""
        return len(self._late)

    def was_stopped(self, run: Hashable) -> bool:
        """Return whether `note_stop` was called for a run that has not ended."""
        return run in self._stopped

    def note_stop(self, run: Hashable) -> None:
        """Record that a run was stopped. It is overdue if it does not end in `STOP_SECONDS`."""
        self._meter.stopped()
        loop = asyncio.get_running_loop()
        self._stopped[run] = loop.call_later(STOP_SECONDS, self._note_late, run)

    def note_end(self, run: Hashable) -> None:
        """Record that a run has ended, stopped or not."""
        timer = self._stopped.pop(run, None)
        if timer is not None:
            timer.cancel()
        if run in self._late:
            self._late.discard(run)
            self._count(-1)

    def _note_late(self, run: Hashable) -> None:
        self._late.add(run)
        self._count(1)

    def _count(self, change: int) -> None:
        self._slots.overdue += change
        self._meter.overdue(change)
