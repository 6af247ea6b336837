"""When each request is due: an open loop, which does not wait for answers.

A service that gets slow does not get fewer requests for it, and what it makes late counts as
late: latency is measured from when a request was due, not from when it could be sent.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.kinds import Kind, Task
from loadtest.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come."""

    number: int
    """Among those of its task, from 0."""
    due: float
    """Seconds from the start of the run."""
    kind: Kind
    repeat: bool
    """Whether it is one that was asked before."""


@dataclass(frozen=True, slots=True)
class Portioned:
    """Which part of a task's load one process sends: that of its users among all users."""

    first: int = 0
    count: int = 1
    of: int = 1

    def has(self, number: int) -> bool:
        """Tell whether a request is one of this part."""
        return self.first <= number % self.of < self.first + self.count


ALONE = Portioned()


def arrivals(
    scenario: Scenario, task: Task, seed: int, portion: Portioned = ALONE
) -> Iterator[Arrival]:
    """Yield the requests of a task in the order in which they are due.

    However many processes share the load, together they send the same requests at the same
    times, each as many of them as it has users.
    """
    draw = random.Random(f"{seed} {task}")
    kinds = scenario.kinds(task)
    weights = [scenario.mix[kind].share for kind in kinds]
    for number, due in enumerate(_due_times(scenario, task, draw)):
        kind = draw.choices(kinds, weights)[0]
        repeat = draw.random() < scenario.mix[kind].repeats
        if portion.has(number):
            yield Arrival(number, due, kind, repeat)


def _due_times(scenario: Scenario, task: Task, draw: random.Random) -> Iterator[float]:
    """Yield times whose density is the rate of the stage they fall in.

    The load that has come so far grows evenly within a stage. Requests are due when it passes
    certain marks: one apart for a constant throughput, at random for a Poisson process.
    """
    share = scenario.share(task)
    is_random = scenario.arrivals == "poisson"
    mark = draw.expovariate(1.0) if is_random else 0.5
    before = 0.0
    for start, stage in zip(scenario.starts(), scenario.stages, strict=True):
        rate = stage.rate * share
        while mark < before + rate * stage.seconds:
            yield start + (mark - before) / rate
            mark += draw.expovariate(1.0) if is_random else 1.0
        before += rate * stage.seconds
