from dataclasses import replace

import pytest

from loadtest.answers import Outcome, Verdict
from loadtest.judge import Verdict as Said
from loadtest.judge import judge
from loadtest.scenario import Scenario
from loadtest.tally import Tally
from tests.unit.loadtest.scenarios import STAGE, scenario, seen

REFUSED = Verdict(Outcome.REFUSED, "429 overloaded")
FAILED = Verdict(Outcome.FAILED, "500")


def said(run: Scenario, tally: Tally) -> tuple[Said, str]:
    judgement = judge(run, tally, seed=0)
    return judgement.verdict, "; ".join(check.name for check in judgement.unmet)


def test_fast_answers_hold_the_level() -> None:
    assert said(scenario(), seen(scenario())) == (Said.HELD, "")


def test_slow_answers_break_it_and_the_reason_is_named() -> None:
    verdict, why = said(scenario(), seen(scenario(), latency=0.15))
    assert verdict is Said.BROKEN
    assert "calm: translate, p95" in why
    assert "p99" not in why


def test_refusals_break_a_level_that_does_not_allow_them() -> None:
    assert said(scenario(), seen(scenario(), verdict=REFUSED))[0] is Said.BROKEN


def test_failures_are_never_refusals() -> None:
    run = scenario(replace(STAGE, refusals="allowed"))
    verdict, why = said(run, seen(run, verdict=FAILED))
    assert verdict is Said.BROKEN
    assert "calm: failures" in why


def test_an_overload_that_refuses_nothing_is_none() -> None:
    run = scenario(replace(STAGE, refusals="expected"))
    assert said(run, seen(run)) == (Said.INVALID, "calm: refusals")


def test_a_refusal_must_be_told_fast() -> None:
    run = scenario(replace(STAGE, refusals="allowed", max_refusal_p99_ms=50.0))
    assert "refusals told" in said(run, seen(run, latency=0.06, verdict=REFUSED))[1]


@pytest.mark.parametrize("fault", ["lag", "cpu", "missing"])
def test_a_run_whose_generator_was_the_bottleneck_is_not_valid(fault: str) -> None:
    run = scenario()
    tally = seen(run, latency=9.0)
    if fault == "lag":
        tally.lag.extend([0.5] * 10)
    elif fault == "cpu":
        tally.cpu_peak = 0.95
    else:
        for column in (tally.kind, tally.outcome, tally.reused, tally.due, tally.latency,
                       tally.without_user):  # fmt: skip
            column.pop()
    assert said(run, tally)[0] is Said.INVALID


@pytest.mark.parametrize(("latency", "verdict"), [(0.01, Said.INVALID), (9.0, Said.BROKEN)])
def test_busy_users_are_the_fault_of_the_run_only_if_the_level_held(
    latency: float, verdict: Said
) -> None:
    tally = seen(scenario(), latency=latency)
    for position in range(len(tally)):
        tally.without_user[position] = 0.005
    assert said(scenario(), tally)[0] is verdict


def test_what_comes_before_a_stage_has_settled_is_not_judged() -> None:
    run = scenario(replace(STAGE, settle_seconds=5.0))
    tally = seen(run)
    for position, due in enumerate(tally.due):
        if due < 5.0:
            tally.latency[position] = 9.0
    assert said(run, tally) == (Said.HELD, "")


def test_nothing_seen_is_no_evidence() -> None:
    assert said(scenario(), Tally())[0] is Said.INVALID


def test_a_tally_survives_its_way_to_the_master() -> None:
    tally = seen(scenario(), verdict=REFUSED)
    other = Tally.load(tally.dump())
    assert other == tally
    other.merge(tally)
    assert len(other) == 2 * len(tally)
    assert sum(other.reasons.values()) == 2 * sum(tally.reasons.values())
