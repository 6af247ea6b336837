"""The loop of decoding steps that a device thread runs for one instance."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from service.engine.engine import ItemResult
from service.engine.inflight.scheduler import Instance, Scheduler, StepEntry
from service.errors import DeviceMemoryError, as_inference_error
from service.runtime.stopping import RunStoppedError, StopSignal, obey
from service.telemetry.meters import StepReport
from service.types import Sessions, Tensors

T = TypeVar("T")

# A loop ends after the step in which this time has passed.
SECONDS = 0.02


class UseSessions(Protocol):
    """Calls a function with the sessions of an instance; `exclusive`: nothing else runs."""

    def __call__(self, act: Callable[[Sessions], T], exclusive: bool) -> T:
        """Return what the function returns."""
        ...


class StepLoop:
    """Call `prepare` and `step` in turn until `prepare` returns False. On one thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        instance: Instance,
        use: UseSessions,
        device_is_free: Callable[[], bool],
        clock: Callable[[], float],
        post: Callable[[Callable[[], None]], object],
    ) -> None:
        """Prepare a loop.

        Args:
            scheduler: the waiting items.
            instance: the instance whose items run.
            use: gives access to the sessions.
            device_is_free: returns whether nothing else runs on the device.
            clock: for the report.
            post: schedules a call on the event loop.
        """
        self._scheduler, self._instance, self._use = scheduler, instance, use
        self._device_is_free, self._clock, self._post = device_is_free, clock, post
        self._ends_at = clock() + SECONDS
        self.report = StepReport()
        self.stop = StopSignal()

    def prepare(self) -> bool:
        """Remove and add items; return whether there is a step to run."""
        if self._scheduler.is_closing or self._clock() >= self._ends_at:
            return False
        self._remove_left()
        if joining := self._scheduler.take(self._instance, self._clock()):
            self._prefill(joining)
        return bool(self._instance.running) and not self.stop.is_set

    def step(self) -> None:
        """Run one step and deliver results."""
        instance, rows = self._instance, self._instance.rows.in_use
        try:
            results = self._use(instance.rows.step, self._is_exclusive())
        except RunStoppedError:
            self._restart()
            return
        except Exception as error:  # every item in these rows must fail or run again
            self._recover(error)
            return
        now, report = self._clock(), self.report
        report.steps += 1
        report.rows += rows
        report.tokens += len(instance.running)
        left = [entry for entry in instance.running if entry.has_left]
        report.wasted_rows += sum(entry.rows for entry in left)
        for entry in instance.running:
            if entry.is_new:
                entry.is_new = False
                report.first_tokens.append(now - entry.queued_at)
        self._show_progress()
        self._deliver({e: results[e] for e in instance.running if e in results}, now)

    def _remove_left(self) -> None:
        if left := [entry for entry in self._instance.running if entry.has_left]:
            self._instance.rows.drop(frozenset(left))
            self._scheduler.leave(self._instance, left)

    def _prefill(self, joining: Sequence[StepEntry]) -> None:
        """Prefill items; if that fails, one by one, so that only those at fault fail."""
        try:
            items = {entry: entry.prepared for entry in joining}
            self._use(
                lambda sessions: self._instance.rows.prefill(sessions, items), self._is_exclusive()
            )
        except RunStoppedError:
            self._restart()
            return
        except Exception as error:
            if len(joining) == 1:
                self.report.isolated += 1
                self._give_up(joining, error)
                return
            for entry in joining:
                if entry in self._instance.running:
                    self._prefill([entry])
            return
        self.report.join_waits += [entry.joined_at - entry.queued_at for entry in joining]

    def _is_exclusive(self) -> bool:
        return self._scheduler.is_exclusive(self._instance) and self._device_is_free()

    def _deliver(self, results: dict[StepEntry, Tensors], now: float) -> None:
        if not results:
            return
        rows = len(self._instance.running)
        self._scheduler.leave(self._instance, list(results))
        done = {
            entry: ItemResult(
                result, entry.joined_at - entry.queued_at, now - entry.joined_at, rows
            )
            for entry, result in results.items()
        }
        self.report.lengths += [entry.prepared.length for entry in done]
        self.report.computed += [each.compute_seconds for each in done.values()]

        def answer() -> None:
            for entry, each in done.items():
                entry.succeed(each)

        self._post(answer)

    def _show_progress(self) -> None:
        watched = frozenset(entry for entry in self._instance.running if entry.watch is not None)
        if not watched:
            return
        seen = self._instance.rows.progress(watched)

        def show() -> None:
            for entry in watched:
                if entry.watch is not None and entry in seen and not entry.has_left:
                    entry.watch(seen[entry])

        self._post(show)

    def _restart(self) -> None:
        """Empty the rows of a stopped loop. Items whose callers still wait run again."""
        self._instance.rows.reset()
        self._scheduler.put_back(self._instance, list(self._instance.running))

    def _recover(self, error: Exception) -> None:
        """Empty the rows. A single item fails; several run again, each without the others."""
        running = list(self._instance.running)
        self._instance.rows.reset()
        if isinstance(error, DeviceMemoryError):
            self.report.memory_exhausted += 1
            used = self._instance.used_rows
            self._scheduler.most_rows = max(1, min(self._scheduler.most_rows, used // 2))
        if len(running) == 1:
            self.report.isolated += 1
            self._give_up(running, error)
            return
        is_suspect = not isinstance(error, DeviceMemoryError)
        for entry in running:
            entry.is_suspect = is_suspect
        self._scheduler.put_back(self._instance, running)

    def _give_up(self, entries: Sequence[StepEntry], error: Exception) -> None:
        self._scheduler.leave(self._instance, entries)
        failure = as_inference_error(error)

        def fail() -> None:
            for entry in entries:
                entry.fail(failure)

        self._post(fail)


def run(steps: StepLoop) -> None:
    """Run a step loop to its end, on the calling thread."""
    obey(steps.stop, _run, steps)


def _run(steps: StepLoop) -> None:
    while steps.prepare():
        steps.step()
