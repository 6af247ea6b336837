"""A work in a batcher's queue, and whoever waits for it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol, TypeAlias

from service.engine.policy import Waiting
from service.engine.preprocess import PreprocessQueue
from service.errors import InferenceError, ServiceError, kept
from service.types import PreparedItem, Tensors


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


RunHere: TypeAlias = Callable[[Sequence[PreparedItem], bool], Sequence[Tensors]]
"""Runs a batch on the thread that calls it; the flag says that nothing else runs."""


class Meter(Protocol):
    """Where a batcher reports what it did; satisfied by `service.telemetry.meters.ModelMeter`."""

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        """A batch was computed; `queued` are its rows' seconds of waiting."""
        ...

    def isolated(self) -> None:
        """A work failed alone, after its neighbours were saved."""
        ...

    def memory_exhausted(self) -> None:
        """The device had no memory for a batch."""
        ...

    def stopped(self) -> None:
        """A run was told to stop."""
        ...

    def overdue(self, change: int) -> None:
        """So many runs more (or fewer, if negative) go on after they were told to stop."""
        ...


class BatchResult(NamedTuple):
    """What a device made of a batch: one result a work, in order, and when."""

    results: Sequence[Tensors]
    started: float
    """When a thread began with it, by the batcher's clock."""
    seconds: float
    """What it took that thread."""


def timed(run: RunHere, batch: Sequence[PreparedItem], alone: bool) -> BatchResult:
    """Run a batch on this thread, and say when and how long."""
    started = time.perf_counter()
    results = run(batch, alone)
    return BatchResult(results, started, time.perf_counter() - started)


class ItemResult(NamedTuple):
    """A work's result and where its time went."""

    result: Tensors
    queue_seconds: float
    compute_seconds: float
    batch_size: int


class BatcherStatistics(NamedTuple):
    """A snapshot, cheap enough to take on every scrape."""

    pending: int
    """Works accepted and not started."""
    running: int
    """Batches on the device."""
    inference_count: int
    """Works answered."""
    execution_count: int
    """Batches run; inference_count over this is the mean batch."""
    ceiling: int
    """Largest batch now allowed; below the limit after the device ran out of memory."""
    overdue: int = 0
    """Runs that were told to stop and have not ended in time."""


_FIRST_RETRY_AFTER = 1.0
"""Seconds to suggest before anything has told the rate."""

_OLD, _NEW = 0.9, 0.1
"""Shares of what was known and of what was just measured."""


class DrainRate:
    """Seconds per item, as a moving average."""

    def __init__(self) -> None:
        self._seconds_per_item: float | None = None

    def note(self, seconds_per_item: float) -> None:
        """Take a measurement in."""
        known = self._seconds_per_item
        self._seconds_per_item = (
            seconds_per_item if known is None else _OLD * known + _NEW * seconds_per_item
        )

    def retry_after(self, pending: int, incoming: PreprocessQueue | None, at_once: int) -> float:
        """Return the seconds in which so many items, `at_once` at a time, will be worked off."""
        if self._seconds_per_item is None:
            return _FIRST_RETRY_AFTER
        before = incoming.seconds_left if incoming else 0.0
        return before + pending * self._seconds_per_item / at_once


@dataclass(eq=False, slots=True)
class Entry:
    """What is known of a work between `submit` and its result."""

    work: PreparedItem
    seen: Waiting
    queued_at: float
    result: "asyncio.Future[ItemResult]"

    @property
    def deadline(self) -> float:
        """Return the loop time by which it is useful; infinity if it always is."""
        return inf if self.seen.deadline is None else self.seen.deadline

    @property
    def has_left(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.result.done()

    def succeed(self, done: ItemResult) -> None:
        """Answer the caller."""
        if not self.result.done():  # the caller may have left
            self.result.set_result(done)

    def fail(self, error: ServiceError) -> None:
        """Tell the caller why there is no answer."""
        if not self.result.done():
            self.result.set_exception(kept(error))
            self.result.exception()  # a caller who is about to leave will not retrieve it


def as_service_error(error: Exception) -> ServiceError:
    """Return an error as one of ours."""
    if isinstance(error, ServiceError):
        return error
    failure = InferenceError(f"the model failed on this item: {error}")
    failure.__cause__ = kept(error)
    return failure
