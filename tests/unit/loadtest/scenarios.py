"""Small scenarios and what a run of them may have seen."""

from dataclasses import replace

import pytest

from loadtest.answers import Outcome, Verdict
from loadtest.kinds import Kind
from loadtest.pacing import arrivals
from loadtest.scenario import Generator, Level, Portion, Scenario, Stage
from loadtest.tally import Sample, Tally

LEVEL = Level(p50_ms=50, p95_ms=100, p99_ms=200)
STAGE = Stage("calm", seconds=20.0, rate=40.0, level="usual")
ANSWERED = Verdict(Outcome.ANSWERED)
KINDS = (Kind.CLASSIFY_TEXT, Kind.TRANSLATE)


def scenario(*stages: Stage, **changes: object) -> Scenario:
    """Classify texts and translate, twice as much of the former."""
    plain = Scenario(
        about="for a test",
        stages=stages or (STAGE,),
        mix={Kind.CLASSIFY_TEXT: Portion(2.0, repeats=0.5), Kind.TRANSLATE: Portion(1.0)},
        levels={"usual": dict.fromkeys(KINDS, LEVEL)},
        users={kind.task: 4 for kind in KINDS},
        generator=Generator(),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def seen(
    run: Scenario,
    seed: int = 0,
    latency: float = 0.01,
    verdict: Verdict = ANSWERED,
) -> Tally:
    """Return a tally in which every request that is due ended in the same way."""
    tally = Tally()
    for task in run.tasks():
        for arrival in arrivals(run, task, seed):
            tally.add(Sample(arrival.kind, arrival.due, latency, 0.0, verdict))
    tally.lag.extend([0.001] * 100)
    tally.cpu_peak = 0.2
    return tally


@pytest.fixture
def calm() -> Scenario:
    return scenario()
