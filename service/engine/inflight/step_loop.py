"""What one of the device's threads does while an instance has its turn."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from service.engine.inflight.scheduler import Entry, Instance, Scheduler
from service.engine.queue import ItemResult, as_service_error
from service.errors import DeviceMemoryError
from service.runtime.stopping import RunStoppedError, StopSignal, obey
from service.telemetry.meters import StepReport
from service.types import Sessions, Tensors

T = TypeVar("T")

SECONDS = 0.02
"""A turn ends after the step in which so much time has passed."""


class UseSessions(Protocol):
    """Acts with the sessions of an instance; `alone` says it may take the whole device."""

    def __call__(self, act: Callable[[Sessions], T], alone: bool) -> T:
        """Return what the action returns."""
        ...


class StepLoop:
    """Prepare, step, prepare, step, until `prepare` says that it is over. On one thread."""

    def __init__(
        self,
        desk: Scheduler,
        seat: Instance,
        use: UseSessions,
        device_is_free: Callable[[], bool],
        clock: Callable[[], float],
        post: Callable[[Callable[[], None]], object],
    ) -> None:
        """Make a turn.

        Args:
            desk: who waits.
            seat: who runs.
            use: the sessions.
            device_is_free: whether nothing else runs there.
            clock: of the report.
            post: has a function called on the event loop, soon.
        """
        self._desk, self._seat, self._use = desk, seat, use
        self._device_is_free, self._clock, self._post = device_is_free, clock, post
        self._ends_at = clock() + SECONDS
        self.report = StepReport()
        self.stop = StopSignal()

    def prepare(self) -> bool:
        """Let people out and in; tell whether there is a step to make."""
        if self._desk.is_closing or self._clock() >= self._ends_at:
            return False
        self._let_out()
        if newcomers := self._desk.take(self._seat, self._clock()):
            self._let_in(newcomers)
        return bool(self._seat.running) and not self.stop.is_set

    def step(self) -> None:
        """Make one step, and hand results over."""
        seat, rows = self._seat, self._seat.rows.in_use
        try:
            results = self._use(seat.rows.step, self._is_alone())
        except RunStoppedError:
            self._begin_again()
            return
        except Exception as error:  # everybody in these rows must hear of it, or try again
            self._recover(error)
            return
        now, report = self._clock(), self.report
        report.steps += 1
        report.rows += rows
        report.tokens += len(seat.running)
        left = [entry for entry in seat.running if entry.has_left]
        report.wasted_rows += sum(entry.seen.rows for entry in left)
        for entry in seat.running:
            if entry.is_new:
                entry.is_new = False
                report.first_tokens.append(now - entry.queued_at)
        self._show_progress()
        self._deliver({e: results[e] for e in seat.running if e in results}, now)

    def _let_out(self) -> None:
        if left := [entry for entry in self._seat.running if entry.has_left]:
            self._seat.rows.drop(frozenset(left))
            self._desk.leave(self._seat, left)

    def _let_in(self, newcomers: Sequence[Entry]) -> None:
        """Begin works; if that fails, one by one, so that only the guilty fail."""
        try:
            works = {entry: entry.work for entry in newcomers}
            self._use(lambda sessions: self._seat.rows.begin(sessions, works), self._is_alone())
        except RunStoppedError:
            self._begin_again()
            return
        except Exception as error:
            if len(newcomers) == 1:
                self.report.isolated += 1
                self._give_up(newcomers, error)
                return
            for entry in newcomers:
                if entry in self._seat.running:
                    self._let_in([entry])
            return
        self.report.join_waits += [entry.joined_at - entry.queued_at for entry in newcomers]

    def _is_alone(self) -> bool:
        return self._desk.is_alone(self._seat) and self._device_is_free()

    def _deliver(self, results: dict[Entry, Tensors], now: float) -> None:
        if not results:
            return
        rows = len(self._seat.running)
        self._desk.leave(self._seat, list(results))
        done = {
            entry: ItemResult(
                result, entry.joined_at - entry.queued_at, now - entry.joined_at, rows
            )
            for entry, result in results.items()
        }
        self.report.computed += [each.compute_seconds for each in done.values()]

        def hand_over() -> None:
            for entry, each in done.items():
                entry.succeed(each)

        self._post(hand_over)

    def _show_progress(self) -> None:
        watched = frozenset(entry for entry in self._seat.running if entry.watch is not None)
        if not watched:
            return
        seen = self._seat.rows.progress(watched)

        def show() -> None:
            for entry in watched:
                if entry.watch is not None and entry in seen and not entry.has_left:
                    entry.watch(seen[entry])

        self._post(show)

    def _begin_again(self) -> None:
        """Empty the rows of a turn that was stopped. Those who still wait are not to blame."""
        self._seat.rows.reset()
        self._desk.put_back(self._seat, list(self._seat.running))

    def _recover(self, error: Exception) -> None:
        """Empty the rows. Who was alone fails; the others begin anew, each alone."""
        running = list(self._seat.running)
        self._seat.rows.reset()
        if isinstance(error, DeviceMemoryError):
            self.report.memory_exhausted += 1
            used = self._seat.used_rows
            self._desk.most_rows = max(1, min(self._desk.most_rows, used // 2))
        if len(running) == 1:
            self.report.isolated += 1
            self._give_up(running, error)
            return
        is_suspect = not isinstance(error, DeviceMemoryError)
        for entry in running:
            entry.seen = replace(entry.seen, is_suspect=is_suspect)
        self._desk.put_back(self._seat, running)

    def _give_up(self, entries: Sequence[Entry], error: Exception) -> None:
        self._desk.leave(self._seat, entries)
        failure = as_service_error(error)

        def fail() -> None:
            for entry in entries:
                entry.fail(failure)

        self._post(fail)


def drive(turn: StepLoop) -> None:
    """Make all the steps of a turn, on the thread that calls."""
    obey(turn.stop, _drive, turn)


def _drive(turn: StepLoop) -> None:
    while turn.prepare():
        turn.step()
