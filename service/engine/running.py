"""The items of one batcher: those that wait, and the batches that run."""

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from service.engine.policy import Waiting
from service.engine.queue import Entry
from service.engine.slots import STOP_SECONDS, Overdue

# How long a batch may run on after its last caller has left or passed its deadline.
GRACE_SECONDS = 0.25

WaitingEntry: TypeAlias = Entry[Waiting]
BatchTask: TypeAlias = "asyncio.Task[None]"


class BatchTable:
    """Waiting items in order of arrival, and running batches by the task that runs each.

    Cancelling a task stops its batch. The task ends when the batch has really ended, and only
    then is its slot free.
    """

    def __init__(self, overdue: Overdue) -> None:
        self.waiting: dict[WaitingEntry, None] = {}
        self._overdue = overdue
        self._batches: dict[BatchTask, Sequence[WaitingEntry]] = {}
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

    def entries(self) -> list[WaitingEntry]:
        """Return all items, waiting and running."""
        running = (entry for batch in self._batches.values() for entry in batch)
        return [*self.waiting, *running]

    def remove(self, entry: WaitingEntry) -> bool:
        """Remove an item if it waits; return whether it did."""
        if entry not in self.waiting:
            return False
        del self.waiting[entry]
        return True

    def add(self, task: BatchTask, batch: Sequence[WaitingEntry]) -> None:
        """Record a batch that begins to run."""
        self._batches[task] = batch

    def pop(self, task: BatchTask) -> Sequence[WaitingEntry]:
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
