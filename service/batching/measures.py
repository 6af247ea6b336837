"""What a batcher tells of its work: to the caller, to a meter, to whoever asks for its state."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from service.types import Tensors, Work

RunHere: TypeAlias = Callable[[Sequence[Work], bool], Sequence[Tensors]]
"""Runs a batch on the thread that calls it; the flag says that nothing else runs."""


class Meter(Protocol):
    """Where a batcher reports what it did; satisfied by `service.meters.ModelMeter`."""

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


class Ran(NamedTuple):
    """What a device made of a batch: one result a work, in order, and when."""

    results: Sequence[Tensors]
    started: float
    """When a thread began with it, by the batcher's clock."""
    seconds: float
    """What it took that thread."""


def timed(run: RunHere, batch: Sequence[Work], alone: bool) -> Ran:
    """Run a batch on this thread, and say when and how long."""
    started = time.perf_counter()
    results = run(batch, alone)
    return Ran(results, started, time.perf_counter() - started)


class Done(NamedTuple):
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
