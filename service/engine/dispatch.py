"""From a batch to a thread and back, and what that alone costs."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from service.engine.batcher import Batcher
from service.engine.inline import Inline
from service.engine.policy import BatchLimits
from service.engine.queue import BatchResult, RunHere, Slots, timed
from service.runtime.stopping import RunStoppedError, StopSignal, obey
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Tensors

T = TypeVar("T")

_ROUNDS, _BATCHES = 5, 40

_UNDER_LOAD = 3
"""So many times what it costs at rest: under load a batch also costs turns of the event loop and
waits for the interpreter's lock. A batch of a small classifier cost about 0.5 ms (64 in flight),
where 0.09 were measured at rest; as much as that makes batches too large where few wait."""


async def run_on(
    threads: Executor, run: RunHere, batch: Sequence[PreparedItem], alone: bool
) -> BatchResult:
    """Run a batch on one of the threads and wait for it; a cancellation stops it."""
    stop = StopSignal()
    return await ended(threads.submit(obey, stop, timed, run, batch, alone), stop)


async def ended(running: "Future[T]", stop: StopSignal) -> T:
    """Wait for what runs on a thread.

    A cancellation stops it, and is passed on only when the thread has really ended with it; a
    second cancellation is passed on at once.
    """
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        stop.set()
        if not running.cancel():  # a thread has begun with it
            end = asyncio.wrap_future(running)
            end.add_done_callback(_take_note)
            await asyncio.wait([end])
        raise


def _take_note(end: "asyncio.Future[T]") -> None:
    if not end.cancelled():
        end.exception()  # nobody is left who would hear of it


async def run_near(
    threads: Executor, inline: Inline, run: RunHere, batch: Sequence[PreparedItem], alone: bool
) -> BatchResult:
    """Run a short batch on the event loop's own thread if nothing else runs; else `run_on`.

    To a small model's lone request the way to a thread and back is 0.2 to 0.3 of 1.3 ms, and a
    third of its processor time. Threads to share the computation would save it nothing either.
    """
    if alone and inline.takes(len(batch), max(work.length for work in batch)):
        with suppress(RunStoppedError):  # it kept the event loop: again, on a thread
            return inline.run(batch)
    return await run_on(threads, run, batch, alone)


async def dispatch_seconds(threads: Executor, slots: Slots) -> float:
    """Return what a batch of a busy service costs beside its computation: forming, way, waking.

    It is what decides how large the batches of a small model should be, whose computation takes
    no longer. Measured on batches that compute nothing; the best of a few rounds.
    """
    limits = BatchLimits(max_batch_size=1, max_queue_size=_BATCHES)
    batcher = Batcher(partial(run_on, threads, _nothing), limits, slots, NullMeter())
    batcher.start()
    try:
        return _UNDER_LOAD * min([await _round(batcher) for _ in range(_ROUNDS)])
    finally:
        await batcher.stop(grace=0)


async def _round(batcher: Batcher) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(batcher.submit(PreparedItem({})) for _ in range(_BATCHES)))
    return (time.perf_counter() - started) / _BATCHES


def _nothing(batch: Sequence[PreparedItem], alone: bool) -> Sequence[Tensors]:
    return [{} for _ in batch]
