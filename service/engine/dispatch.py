"""How a batch gets to one of the device's threads and back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple, TypeAlias, TypeVar

from service.runtime.stopping import StopSignal, obey
from service.types import PreparedItem, Tensors

T = TypeVar("T")

RunHere: TypeAlias = Callable[[Sequence[PreparedItem], bool], Sequence[Tensors]]
"""Runs a batch on the calling thread. The flag says that nothing else runs on the device."""


class BatchResult(NamedTuple):
    """The results of a batch, one for each item in order, and when it ran."""

    results: Sequence[Tensors]
    started: float
    """When its thread began, by the batcher's clock."""
    seconds: float
    """How long its thread took."""


RunBatch: TypeAlias = Callable[[Sequence[PreparedItem], bool], Awaitable[BatchResult]]
"""Runs a batch, usually on another thread. The flag says that nothing else runs on the device."""


def timed(run: RunHere, batch: Sequence[PreparedItem], alone: bool) -> BatchResult:
    """Run a batch on this thread and time it."""
    started = time.perf_counter()
    results = run(batch, alone)
    return BatchResult(results, started, time.perf_counter() - started)


async def run_on(
    threads: Executor, run: RunHere, batch: Sequence[PreparedItem], alone: bool
) -> BatchResult:
    """Run a batch on one of the threads.

    Cancelling the call stops the run, and returns only when its thread has really ended with it;
    a second cancellation returns at once.
    """
    stop = StopSignal()
    running = threads.submit(obey, stop, timed, run, batch, alone)
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        stop.set()
        if not running.cancel():  # a thread has begun with it
            await _end_of(running)
        raise


async def _end_of(running: "Future[BatchResult]") -> None:
    end = asyncio.wrap_future(running)
    end.add_done_callback(_retrieve)
    await asyncio.wait([end])


def _retrieve(end: "asyncio.Future[BatchResult]") -> None:
    # Without this asyncio would log that the exception was never retrieved.
    if not end.cancelled():
        end.exception()
