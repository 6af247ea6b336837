"""Where a batch runs: on one of the device's threads or, a short one, on the event loop's own."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple, TypeAlias

from service.engine.curve import BatchCurve
from service.runtime.stopping import StopSignal, obey
from service.telemetry.metrics import INFERENCE_INLINE_OVERRUNS
from service.telemetry.request_metrics import (
    EVENT_LOOP_LAG_SECONDS,
)
from service.types import PreparedItem, Tensors

_log = logging.getLogger(__name__)

# Ten times the longest run that is expected to stay on the event loop.
_OVERRUN_SECONDS = 0.02

# How often the watchdog looks.
_TICK_SECONDS = 0.5

# A run that blocks the event loop for longer is stopped: every other request waits for it.
_LONGEST_RUN_SECONDS = 1.0

# A blocked event loop is logged after this time.
_STALL_SECONDS = 5.0

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


def timed(run: RunHere, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
    """Run a batch on this thread and time it."""
    started = time.perf_counter()
    results = run(batch, exclusive)
    return BatchResult(results, started, time.perf_counter() - started)


async def run_on(
    threads: Executor, run: RunHere, batch: Sequence[PreparedItem], exclusive: bool
) -> BatchResult:
    """Run a batch on one of the threads.

    Cancelling the call stops the run, and returns only when its thread has really ended with it;
    a second cancellation returns at once.
    """
    stop = StopSignal()
    running = threads.submit(obey, stop, timed, run, batch, exclusive)
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        stop.set()
        if not running.cancel():  # a thread has begun with it
            await _end_of(running)
        raise
    finally:
        del running  # a failed future would keep this frame, and the frame the future


async def _end_of(running: "Future[BatchResult]") -> None:
    end = asyncio.wrap_future(running)
    end.add_done_callback(_retrieve)
    await asyncio.wait([end])


def _retrieve(end: "asyncio.Future[BatchResult]") -> None:
    # Without this asyncio would log that the exception was never retrieved.
    if not end.cancelled():
        end.exception()


class LoopWatch:
    """A thread that stops runs which block the event loop, and measures the loop's lag."""

    def __init__(self) -> None:
        self._run: tuple[StopSignal, float] | None = None
        self._closed = threading.Event()
        self._pinged_at: float | None = None
        self._has_logged = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop until `close`."""
        threading.Thread(target=self._watch, args=(loop,), name="loop-watch", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def begin(self, stop: StopSignal) -> None:
        """Record that a run begins on the event loop's thread."""
        self._run = stop, time.perf_counter()

    def end(self) -> None:
        """Record that the run has ended."""
        self._run = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            now = time.perf_counter()
            run = self._run
            if run is not None and now - run[1] > _LONGEST_RUN_SECONDS:
                run[0].set()
            if self._pinged_at is None:
                self._pinged_at, self._has_logged = now, False
                try:
                    loop.call_soon_threadsafe(self._answer)
                except RuntimeError:  # the loop is closed
                    return
            elif now - self._pinged_at > _STALL_SECONDS and not self._has_logged:
                self._has_logged = True
                _log.error("event loop blocked", extra={"seconds": now - self._pinged_at})

    def _answer(self) -> None:
        if self._pinged_at is not None:
            EVENT_LOOP_LAG_SECONDS.observe(time.perf_counter() - self._pinged_at)
            self._pinged_at = None


class Inline:
    """Runs one lane's short batches on the event loop's thread.

    After the first batch that takes much longer than measured, all go to the device's threads.
    """

    def __init__(
        self,
        curve: BatchCurve,
        run: RunHere,
        watch: LoopWatch,
        version: tuple[str, str] = ("", ""),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare to run.

        Args:
            curve: what warm-up measured.
            run: runs a batch.
            watch: stops a run that blocks the event loop for too long.
            version: the model's name and version, for the log and the metric.
            clock: times a run; the thread's processor time is not misled by a busy machine.
        """
        self._run, self._watch = run, watch
        self._version, self._clock = version, clock
        self.longest = curve.longest_short()
        """Length of the longest item that may run here, without other items; 0 for none."""

    def run(self, batch: Sequence[PreparedItem]) -> BatchResult:
        """Run a batch on this thread.

        Raises:
            RunStoppedError: the run took too long; `longest` is 0 from now on.
        """
        stop = StopSignal()
        self._watch.begin(stop)
        started, began = self._clock(), time.perf_counter()
        try:
            results = obey(stop, self._run, batch, False)
            return BatchResult(results, began, time.perf_counter() - began)
        finally:
            self._watch.end()
            seconds = self._clock() - started
            if stop.is_set or seconds > _OVERRUN_SECONDS:
                self._note_overrun(seconds)

    def _note_overrun(self, seconds: float) -> None:
        self.longest = 0
        model, version = self._version
        INFERENCE_INLINE_OVERRUNS.labels(model, version).inc()
        _log.warning(
            "inline run too long: runs move to threads",
            extra={"model": model, "version": version, "seconds": round(seconds, 3)},
        )
