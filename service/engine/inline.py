"""Short batches on the event loop's own thread, and when one may run there."""

import logging
import time
from collections.abc import Callable, Sequence

from service.engine.curve import BatchCurve
from service.engine.loop_watch import LoopWatch
from service.engine.queue import BatchResult, RunHere, timed
from service.runtime.stopping import StopSignal, obey
from service.telemetry.metrics import INFERENCE_INLINE_OVERRUNS
from service.types import PreparedItem

_log = logging.getLogger(__name__)

_OVERRUN_SECONDS = 0.02
"""Ten times what a batch may be expected to take on the event loop."""


class Inline:
    """One lane's way to run on the thread that calls.

    A batch may run there if its rows and its length are within what warm-up measured and it was
    short. The first batch that takes much longer all the same is the last: from then on all go to
    the device's threads.
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
            watch: stops a run that keeps the event loop for too long.
            version: the model's name and its version, for the log and the metric.
            clock: times a run; one of the thread's processor time is not misled by a busy machine.
        """
        self._curve, self._run, self._watch = curve, run, watch
        self._version, self._clock = version, clock
        self._overran = False

    def takes(self, rows: int, length: int) -> bool:
        """Tell whether such a batch may run here."""
        return not self._overran and self._curve.is_short(rows, length)

    def run(self, batch: Sequence[PreparedItem]) -> BatchResult:
        """Run a batch on this thread, and on no other.

        Raises:
            RunStoppedError: it took too long; `takes` says no from now on.
        """
        stop = StopSignal()
        self._watch.begin(stop)
        started = self._clock()
        try:
            return obey(stop, timed, self._run, batch, False)
        finally:
            self._watch.end()
            seconds = self._clock() - started
            if stop.is_set or seconds > _OVERRUN_SECONDS:
                self._note_overrun(seconds)

    def _note_overrun(self, seconds: float) -> None:
        self._overran = True
        model, version = self._version
        INFERENCE_INLINE_OVERRUNS.labels(model, version).inc()
        _log.warning(
            "a short run took long; the model's runs leave the event loop",
            extra={"model": model, "version": version, "seconds": round(seconds, 3)},
        )
