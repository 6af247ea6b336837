from dataclasses import replace
from itertools import pairwise
from statistics import mean, pstdev

import pytest

from loadtest.kinds import Kind, Task
from loadtest.pacing import Portioned, arrivals
from tests.unit.loadtest.scenarios import STAGE, scenario


def test_a_constant_throughput_spaces_requests_evenly() -> None:
    found = list(arrivals(scenario(arrivals="constant"), Task.TRANSLATE, seed=0))
    gaps = [later.due - earlier.due for earlier, later in pairwise(found)]
    assert gaps == pytest.approx([3 / 40] * len(gaps))
    assert len(found) == round(20 * 40 / 3)


def test_poisson_arrivals_keep_the_rate_and_vary_as_such_arrivals_do() -> None:
    run = scenario(replace(STAGE, seconds=200.0))
    found = [a.due for a in arrivals(run, Task.CLASSIFY, seed=1)]
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert found == sorted(found)
    assert len(found) / 200 == pytest.approx(40 * 2 / 3, rel=0.05)
    assert pstdev(gaps) / mean(gaps) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("pattern", ["constant", "poisson"])
def test_each_stage_has_its_own_rate(pattern: str) -> None:
    stages = (
        replace(STAGE, name="a", seconds=30.0, rate=30.0),
        replace(STAGE, name="b", seconds=10.0, rate=300.0),
        replace(STAGE, name="c", seconds=30.0, rate=30.0),
    )
    found = [a.due for a in arrivals(scenario(*stages, arrivals=pattern), Task.CLASSIFY, seed=2)]
    counts = [sum(a <= due < b for due in found) for a, b in ((0, 30), (30, 40), (40, 70))]
    assert counts == pytest.approx([600, 2000, 600], rel=0.12)
    assert max(found) < 70


def test_the_same_seed_asks_the_same_and_another_does_not() -> None:
    run = scenario()
    first, again, other = (list(arrivals(run, Task.CLASSIFY, seed)) for seed in (5, 5, 6))
    assert first == again != other


@pytest.mark.parametrize("pattern", ["constant", "poisson"])
def test_processes_together_send_what_one_would_send_alone(pattern: str) -> None:
    run = scenario(arrivals=pattern)
    alone = list(arrivals(run, Task.CLASSIFY, 3))
    parts = [list(arrivals(run, Task.CLASSIFY, 3, Portioned(index, 1, 3))) for index in range(3)]
    together = sorted((a for part in parts for a in part), key=lambda a: a.number)
    assert together == alone
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1


def test_as_many_are_repeats_as_the_mix_says() -> None:
    run = scenario(replace(STAGE, seconds=100.0))
    texts = [a for a in arrivals(run, Task.CLASSIFY, 4) if a.kind is Kind.CLASSIFY_TEXT]
    assert mean(a.repeat for a in texts) == pytest.approx(0.5, abs=0.05)
    assert not any(a.repeat for a in arrivals(run, Task.TRANSLATE, 4))
