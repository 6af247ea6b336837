"""Short batches on the event loop's own thread, and the watchdog that makes that safe."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult, RunHere
from service.runtime.stopping import StopSignal, obey
from service.telemetry.metrics import EVENT_LOOP_LAG_SECONDS, INFERENCE_INLINE_OVERRUNS
from service.types import PreparedItem

_log = logging.getLogger(__name__)

# Ten times the longest run that is expected to stay on the event loop.
_OVERRUN_SECONDS = 0.02

# How often the watchdog looks.
_TICK_SECONDS = 0.5

# A run that blocks the event loop for longer is stopped: every other request waits for it.
_LONGEST_RUN_SECONDS = 1.0

# A blocked event loop is logged after this time.
_STALL_SECONDS = 5.0


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

    A batch may run there if its rows and length are within what warm-up measured, and it was
    short. After the first batch that takes much longer, all batches go to the device's threads.
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
        self._curve, self._run, self._watch = curve, run, watch
        self._version, self._clock = version, clock
        self._has_overrun = False

    def takes(self, rows: int, length: int) -> bool:
        """Return whether a batch may run on the event loop."""
        return not self._has_overrun and self._curve.is_short(rows, length)

    def run(self, batch: Sequence[PreparedItem]) -> BatchResult:
        """Run a batch on this thread.

        Raises:
            RunStoppedError: the run took too long; `takes` returns False from now on.
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
        self._has_overrun = True
        model, version = self._version
        INFERENCE_INLINE_OVERRUNS.labels(model, version).inc()
        _log.warning(
            "inline run too long: runs move to threads",
            extra={"model": model, "version": version, "seconds": round(seconds, 3)},
        )
