"""Runs that were told to stop, and those of them that do not end."""

import asyncio
from collections.abc import Hashable
from typing import Protocol

from service.batching.slots import Slots

OBEYS_SECONDS = 0.5
"""How long a run may take to end after it was told to: then it counts as overdue. ONNX Runtime
looks between two nodes, so only a single node that lasts takes longer."""


class StopMeter(Protocol):
    """Where stopped runs are counted; satisfied by `service.meters.ModelMeter`."""

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
