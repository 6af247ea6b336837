"""One process's part of a run: which request is next, and what has become of the others."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gevent.event import Event

from loadtest.answers import Verdict
from loadtest.kinds import Task
from loadtest.pacing import Arrival, Portioned, arrivals
from loadtest.payloads import Payloads, Request
from loadtest.scenario import Scenario
from loadtest.tally import Sample, Tally


@dataclass(frozen=True, slots=True)
class StepLoop:
    """A request that a user has taken on."""

    arrival: Arrival
    request: Request
    due: float
    """On the run's clock."""
    taken: float
    """When a user was free for it; mostly before it is due."""


class Run:
    """What the users of this process share.

    Requests are taken in the order in which they are due, each by the first user of its task who
    is free. Only when all of them are busy does a request wait here, and this counts as latency.
    """

    def __init__(
        self,
        scenario: Scenario,
        payloads: Payloads,
        seed: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.scenario = scenario
        self.tally = Tally()
        self.begun = Event()
        self._payloads, self._seed, self._clock = payloads, seed, clock
        self._started = 0.0
        self._coming: dict[Task, Iterator[Arrival]] = {}
        self._exhausted: set[Task] = set()
        self._taken = 0
        self._ended = 0

    def __repr__(self) -> str:
        return f"<Run {self._taken} taken, {self._ended} ended>"

    def begin(self, portions: Mapping[Task, Portioned]) -> None:
        """Start the clock, for these parts of the load; a task without users has none."""
        self._coming = {
            task: arrivals(self.scenario, task, self._seed, portion)
            for task, portion in portions.items()
            if portion.count
        }
        self._started = self._clock()
        self.begun.set()

    @property
    def is_done(self) -> bool:
        """Tell whether every request of this part has ended."""
        return len(self._exhausted) == len(self._coming) and self._taken == self._ended

    def take(self, task: Task) -> StepLoop | None:
        """Return the next request of a task; None if there are no more."""
        arrival = next(self._coming[task], None)
        if arrival is None:
            self._exhausted.add(task)
            return None
        self._taken += 1
        request = self._payloads.request(arrival)
        return StepLoop(arrival, request, self._started + arrival.due, self._clock())

    def remaining(self, turn: StepLoop) -> float:
        """Return how many seconds are left until a request is due, or 0."""
        return max(0.0, turn.due - self._clock())

    def end(self, turn: StepLoop, verdict: Verdict) -> float:
        """Record what has become of a request; return its latency in seconds."""
        latency = self._clock() - turn.due
        self._ended += 1
        without_user = max(0.0, turn.taken - turn.due)
        arrival = turn.arrival
        self.tally.add(Sample(arrival.kind, arrival.due, latency, without_user, verdict))
        return latency

    def hand_over(self) -> Tally:
        """Return what was seen since the last call, and reset."""
        seen, self.tally = self.tally, Tally()
        return seen
