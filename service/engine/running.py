"""The batches of one model on the device, and the end of those that nobody waits for."""

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol, TypeAlias

from service.engine.queue import Entry, Slots

OBEYS_SECONDS = 0.5
"""How long a run may take to end after it was told to: then it counts as overdue. ONNX Runtime
looks between two nodes, so only a single node that lasts takes longer."""


class StopMeter(Protocol):
    """Where stopped runs are counted; satisfied by `service.telemetry.meters.ModelMeter`."""

    def stopped(self) -> None:
        """A run was told to stop."""
        ...

    def overdue(self, change: int) -> None:
        """So many runs more (or fewer, if negative) go on after they were told to stop."""
        ...


class Overdue:
    """Counts one model's overdue runs, for its metrics and on the device's slots."""

    def __init__(self, slots: Slots, meter: StopMeter) -> None:
        self.meter = meter
        self._slots = slots
        self._told: dict[Hashable, asyncio.TimerHandle] = {}
        self._late: set[Hashable] = set()

    @property
    def count(self) -> int:
        """Return how many are overdue now."""
        return len(self._late)

    def was_told(self, run: Hashable) -> bool:
        """Tell whether a run was told to stop."""
        return run in self._told

    def tell(self, run: Hashable) -> None:
        """Note that a run was told to stop."""
        self.meter.stopped()
        loop = asyncio.get_running_loop()
        self._told[run] = loop.call_later(OBEYS_SECONDS, self._note_late, run)

    def end(self, run: Hashable) -> None:
        """Note that a run has ended, whether it was told to or not."""
        timer = self._told.pop(run, None)
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
        self.meter.overdue(change)


GRACE_SECONDS = 0.25
"""How long a batch may go on after its last caller has left or is past its deadline."""

BatchTask: TypeAlias = "asyncio.Task[None]"


class RunningBatches:
    """Batches by the task that runs each.

    A task is cancelled to stop its batch, and ends when the batch has really ended: only then is
    its slot free.
    """

    def __init__(self, slots: Slots, meter: StopMeter) -> None:
        self.overdue = Overdue(slots, meter)
        self._batches: dict[BatchTask, Sequence[Entry]] = {}
        self._look: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def entries(self) -> Iterator[Entry]:
        """Yield the works of all batches."""
        return (entry for batch in self._batches.values() for entry in batch)

    def add(self, task: BatchTask, batch: Sequence[Entry]) -> None:
        """Take a batch in."""
        self._batches[task] = batch

    def pop(self, task: BatchTask) -> Sequence[Entry]:
        """Let a batch go that has ended."""
        self.overdue.end(task)
        return self._batches.pop(task)

    def look_soon(self) -> None:
        """After the grace, stop the batches that nobody waits for. Call it when a caller leaves."""
        if self._look is None and self._batches:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(GRACE_SECONDS, self._stop_abandoned)

    async def stop(self) -> int:
        """Stop every batch; return how many have not ended after `OBEYS_SECONDS`."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        tasks = list(self._batches)
        for task in tasks:
            self._stop(task)
        if not tasks:
            return 0
        _, going_on = await asyncio.wait(tasks, timeout=OBEYS_SECONDS)
        return len(going_on)

    def _stop_abandoned(self) -> None:
        self._look = None
        for task, batch in self._batches.items():
            if all(entry.has_left for entry in batch):
                self._stop(task)

    def _stop(self, task: BatchTask) -> None:
        # Once only: a second cancellation would end the task before its batch has ended.
        if not self.overdue.was_told(task):
            self.overdue.tell(task)
            task.cancel()
