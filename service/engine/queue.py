"""The side of an engine that faces its callers: its items, their admission, deadlines and stop."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, TypeAlias, TypeVar

from service.engine.curve import BatchCurve, Pace, Remembered
from service.engine.engine import ItemResult
from service.engine.fairness import Holdings
from service.engine.policy import BatchLimits, Urgency
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import STOP_SECONDS, Overdue
from service.errors import (
    DeadlineExceededError,
    OverloadedError,
    ServiceError,
    ShuttingDownError,
    kept,
)
from service.types import PreparedItem, Share

# How long a batch may run on after its last caller has left or passed its deadline.
GRACE_SECONDS = 0.25

# One place in eight is for owners that hold less than their share of the queue.
_RESERVED = 8


@dataclass(eq=False, slots=True)
class Entry:
    """An item between `submit` and its result. The future belongs to the event loop."""

    prepared: PreparedItem
    urgency: Urgency
    deadline: float
    """Time of the event loop's clock; infinity without a deadline."""
    queued_at: float
    """Time of the engine's clock."""
    result: "asyncio.Future[ItemResult]"
    share: Share | None
    """Whose item it is; None without a keys file."""

    @property
    def has_left(self) -> bool:
        """Return whether the caller has its answer, or was cancelled."""
        return self.result.done()

    def succeed(self, result: ItemResult) -> None:
        """Answer the caller, if it still waits."""
        if not self.result.done():
            self.result.set_result(result)

    def fail(self, error: ServiceError) -> None:
        """Raise an error in the caller, if it still waits."""
        if not self.result.done():
            self.result.set_exception(kept(error))
            self.result.exception()  # marked as retrieved: the caller may be cancelled meanwhile


EntryT = TypeVar("EntryT", bound=Entry)


class ItemTable(Protocol[EntryT]):
    """The items that an engine holds, waiting or running."""

    @property
    def pending(self) -> int:
        """Return how many items wait."""
        ...

    @property
    def is_idle(self) -> bool:
        """Return whether no item waits or runs."""
        ...

    def lengths(self) -> Sequence[int]:
        """Return the lengths of the waiting items."""
        ...

    def entries(self) -> Iterable[EntryT]:
        """Return all items, waiting and running."""
        ...

    def remove(self, entry: EntryT) -> bool:
        """Remove an item if it waits; return whether it did."""
        ...


BatchTask: TypeAlias = "asyncio.Task[None]"


class BatchTable:
    """Waiting items in order of arrival, and running batches by the task that runs each.

    Cancelling a task stops its batch. The task ends when the batch has really ended, and only
    then is its slot free.
    """

    def __init__(self, overdue: Overdue) -> None:
        self.waiting: dict[Entry, None] = {}
        self._overdue = overdue
        self._batches: dict[BatchTask, Sequence[Entry]] = {}
        self._check: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Return how many items wait."""
        return len(self.waiting)

    @property
    def running(self) -> int:
        """Return how many batches run."""
        return len(self._batches)

    @property
    def is_idle(self) -> bool:
        """Return whether no item waits or runs."""
        return not self.waiting and not self._batches

    def lengths(self) -> list[int]:
        """Return the lengths of the waiting items."""
        return [entry.prepared.length for entry in list(self.waiting)]

    def entries(self) -> list[Entry]:
        """Return all items, waiting and running."""
        running = (entry for batch in self._batches.values() for entry in batch)
        return [*self.waiting, *running]

    def remove(self, entry: Entry) -> bool:
        """Remove an item if it waits; return whether it did."""
        if entry not in self.waiting:
            return False
        del self.waiting[entry]
        return True

    def add(self, task: BatchTask, batch: Sequence[Entry]) -> None:
        """Record a batch that begins to run."""
        self._batches[task] = batch

    def pop(self, task: BatchTask) -> Sequence[Entry]:
        """Return the items of a batch that has ended, and forget it."""
        self._overdue.note_end(task)
        return self._batches.pop(task)

    def stop_abandoned_soon(self) -> None:
        """After `GRACE_SECONDS`, stop the batches whose callers have all left."""
        if self._check is None and self._batches:
            loop = asyncio.get_running_loop()
            self._check = loop.call_later(GRACE_SECONDS, self._stop_abandoned)

    async def stop(self) -> int:
        """Stop every batch; return how many have not ended after `STOP_SECONDS`."""
        if self._check is not None:
            self._check.cancel()
            self._check = None
        tasks = list(self._batches)
        for task in tasks:
            self._stop(task)
        if not tasks:
            return 0
        _, unfinished = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        return len(unfinished)

    def _stop_abandoned(self) -> None:
        self._check = None
        for task, batch in self._batches.items():
            if all(entry.has_left for entry in batch):
                self._stop(task)

    def _stop(self, task: BatchTask) -> None:
        # Only once: a second cancellation would end the task before its batch has ended.
        if not self._overdue.was_stopped(task):
            self._overdue.note_stop(task)
            task.cancel()


class RequestQueue(Generic[EntryT]):
    """Admits items, fails them at their deadline, and stops without losing accepted ones."""

    def __init__(
        self,
        table: ItemTable[EntryT],
        limits: BatchLimits,
        curve: BatchCurve,
        concurrency: int,
        incoming: PreprocessQueue | None,
        note_departure: Callable[[], None],
    ) -> None:
        """Make a queue that refuses everything until `start`.

        Args:
            table: what the engine holds.
            limits: bounds the number of waiting items.
            curve: how long an item takes at least.
            concurrency: how many batches compute at once.
            incoming: items being preprocessed; they count as waiting here already.
            note_departure: called when callers no longer wait for items that may be running.
        """
        self._table, self._limits, self._curve = table, limits, curve
        self._concurrency, self._incoming = concurrency, incoming
        self._note_departure = note_departure
        self.holdings = incoming.holdings if incoming else Holdings()
        """What each owner has in progress, items that are being preprocessed included."""
        self._is_open = False
        self._retry_after = Remembered()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_deadline = inf
        self.pace = Pace(curve)
        """How fast the device is; the engine notes each run."""

    @property
    def pending(self) -> int:
        """Return how many accepted items have not started, those being preprocessed included."""
        return self._table.pending + (self._incoming.pending if self._incoming else 0)

    @property
    def backlog_seconds(self) -> float:
        """Return the expected seconds until the items that wait now have been computed."""
        seconds = self.pace.seconds(self._table.lengths(), self._concurrency)
        if (incoming := self._incoming) is None or not incoming.pending:
            return seconds
        # Items are preprocessed while others are computed.
        each = self.pace.seconds_per_item / self._concurrency
        return max(incoming.seconds_left, seconds + incoming.pending * each)

    def start(self) -> None:
        """Begin to accept items."""
        self._is_open = True

    async def stop(self, grace: float) -> None:
        """Refuse new items; return when all are answered, or after `grace` seconds."""
        self._is_open = False
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            pass

    def close(self, error: ServiceError) -> None:
        """Fail every item that is left, and stop the timer."""
        self.fail(list(self._table.entries()), error)
        self._set_timer(inf)

    def check_room(self, share: Share | None) -> None:
        """Raise what `Engine.check_room` raises."""
        if not self._is_open:
            raise ShuttingDownError("the model is stopping")
        most = self._limits.max_queue_size
        why, pending = "", self.pending
        if pending < most:
            nearly = most - most // _RESERVED
            if share is None or pending < nearly or not self.holdings.is_over(share):
                return
            why = ", and this key has its share of them"
        now = asyncio.get_running_loop().time()
        seconds = self._retry_after.at(now, lambda: self.backlog_seconds)
        raise OverloadedError(f"{pending} items already wait{why}", seconds)

    def admit(self, length: int, deadline: float | None, now: float, share: Share | None) -> None:
        """Raise what `check_room` raises, or DeadlineExceededError if the deadline is too close."""
        self.check_room(share)
        if deadline is not None and now + self._curve.seconds(1, length) > deadline:
            raise DeadlineExceededError("the deadline is too close for this item")

    async def result_of(self, entry: EntryT) -> ItemResult:
        """Return the result of an item that was just put into the table."""
        self._idle.clear()
        if (share := entry.share) is not None:
            self.holdings.enter(share)
        if entry.deadline < self._next_deadline:
            self._set_timer(entry.deadline)
        try:
            return await entry.result  # cancelling the caller cancels this future, nothing else
        except asyncio.CancelledError:
            self._note_departure()
            raise
        finally:
            if share is not None:
                self.holdings.leave(share)
            if self._table.remove(entry):
                self.note_idle()
            # Its future may hold an exception, whose traceback would keep this frame.
            del entry

    def note_idle(self) -> None:
        """Let `stop` return if the engine holds no items. Call when an item leaves the table."""
        if self._table.is_idle:
            self._idle.set()

    def fail(self, entries: Iterable[EntryT], error: ServiceError) -> None:
        """Remove items from the table and raise an error in their callers."""
        for entry in entries:
            self._table.remove(entry)
            entry.fail(error)
        self.note_idle()

    def expire(self, now: float) -> None:
        """Fail items whose deadline has passed, even if the event loop is late with its timers."""
        if now >= self._next_deadline:
            self._expire()

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        late = [entry for entry in self._table.entries() if entry.deadline <= now]
        self.fail(late, DeadlineExceededError("the deadline passed before the answer"))
        self._note_departure()
        staying = (entry.deadline for entry in self._table.entries() if not entry.has_left)
        self._set_timer(min(staying, default=inf))

    # One timer for the earliest deadline: a timer for each item would cost each a microsecond.
    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_deadline = when
        loop = asyncio.get_running_loop()
        self._timer = None if when == inf else loop.call_at(when, self._expire)
