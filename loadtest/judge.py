"""Whether the level was held, and whether the run may say so at all.

A run whose generator was the bottleneck, or that did not send what it should have, is no evidence
for or against the service.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from loadtest.answers import Outcome
from loadtest.pacing import arrivals
from loadtest.scenario import Level, Scenario, Stage
from loadtest.summary import Row, Samples
from loadtest.tally import Tally

_NOTICEABLE_SECONDS = 0.001


class Verdict(Enum):
    """What a run says; its value is the exit status."""

    HELD = 0
    BROKEN = 1
    INVALID = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, and what was found."""

    name: str
    is_met: bool
    found: str
    allowed: str
    is_about_generator: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.found}, allowed {self.allowed}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and everything it rests on."""

    checks: Sequence[Check]
    rows: Sequence[Row]

    @property
    def verdict(self) -> Verdict:
        """Return what the run says; a doubtful generator outweighs everything else."""
        if any(check.is_about_generator for check in self.unmet):
            return Verdict.INVALID
        return Verdict.BROKEN if self.unmet else Verdict.HELD

    @property
    def unmet(self) -> Sequence[Check]:
        """Return the checks that failed, those of the generator first."""
        unmet = [check for check in self.checks if not check.is_met]
        return sorted(unmet, key=lambda check: not check.is_about_generator)


def judge(scenario: Scenario, tally: Tally, seed: int) -> Judgement:
    """Compare what was seen with what the scenario demands."""
    samples = Samples(scenario, tally)
    rows = samples.rows()
    checks = [*_generator_checks(samples, tally, seed)]
    for stage in scenario.stages:
        found = [*_stage_checks(stage, samples)]
        for row in (row for row in rows if row.stage == stage.name):
            found += _level_checks(row, scenario.levels[stage.level][row.kind])
        is_held = all(check.is_met for check in found)
        checks += [*found, _users_check(stage, samples, is_held)]
    return Judgement(checks, rows)


def _generator_checks(samples: Samples, tally: Tally, seed: int) -> Iterable[Check]:
    scenario, limits = samples.scenario, samples.scenario.generator
    planned = sum(1 for task in scenario.tasks() for _ in arrivals(scenario, task, seed))
    yield Check(
        "requests that ended", len(tally) == planned, str(len(tally)), f"all {planned}", True
    )
    lags = np.frombuffer(tally.lag)
    p99 = 1000 * float(np.quantile(lags, 0.99, method="inverted_cdf")) if len(lags) else math.inf
    yield Check(
        "lateness of the generator's timers, p99",
        p99 <= limits.max_lag_p99_ms,
        f"{p99:.1f} ms",
        f"{limits.max_lag_p99_ms:g} ms",
        True,
    )
    yield Check(
        "processor share of a generator process",
        tally.cpu_peak <= limits.max_cpu_share,
        f"{tally.cpu_peak:.0%}",
        f"{limits.max_cpu_share:.0%}",
        True,
    )


def _stage_checks(stage: Stage, samples: Samples) -> Iterable[Check]:
    judged = samples.judged(stage)
    if stage.refusals == "expected":
        refused = int((judged & samples.ended(Outcome.REFUSED)).sum())
        # A service that is not overloaded has not shown what it does when it is.
        yield Check(f"{stage.name}: refusals", refused > 0, str(refused), "at least 1", True)
    if stage.max_refusal_p99_ms is not None and not math.isnan(samples.refusal_p99_ms(stage)):
        p99 = samples.refusal_p99_ms(stage)
        yield _at_most(f"{stage.name}: refusals told, p99", p99, stage.max_refusal_p99_ms)
    if stage.min_answered_rate is not None:
        rate = samples.answered_rate(stage)
        yield Check(
            f"{stage.name}: answers a second",
            rate >= stage.min_answered_rate,
            f"{rate:.1f}",
            f"at least {stage.min_answered_rate:.1f}",
        )
    yield from _failure_checks(stage, samples)


def _failure_checks(stage: Stage, samples: Samples) -> Iterable[Check]:
    judged = samples.judged(stage)
    sent = max(1, int(judged.sum()))
    failed = int((judged & samples.ended(Outcome.FAILED)).sum())
    yield Check(
        f"{stage.name}: failures",
        failed <= stage.max_error_share * sent,
        f"{failed} of {sent}",
        f"{stage.max_error_share:.2%}",
    )
    if stage.refusals == "none":
        refused = int((judged & samples.ended(Outcome.REFUSED)).sum())
        yield Check(f"{stage.name}: refusals", refused == 0, f"{refused} of {sent}", "none")


def _users_check(stage: Stage, samples: Samples, is_held: bool) -> Check:
    """Requests that wait for a user reach the service later and sparser than they should.

    Their wait is in their latency: where the level broke, the service was slow. Where it held,
    there were too few users, and the load was not the one that the level is promised for.
    """
    judged = samples.judged(stage)
    limit = samples.scenario.generator.max_without_user_share
    waited = samples.without_user[judged] > _NOTICEABLE_SECONDS
    share = float(waited.mean()) if waited.size else 0.0
    name = f"{stage.name}: due while all users of the task were busy"
    return Check(name, share <= limit, f"{share:.1%}", f"{limit:.1%}", is_held)


def _level_checks(row: Row, level: Level) -> Iterable[Check]:
    name = f"{row.stage}: {row.kind}"
    if row.sent and not row.answered:
        yield Check(f"{name}, answers", False, f"none of {row.sent}", "some")
    if row.answered:
        yield _at_most(f"{name}, p50", row.latency.p50, level.p50_ms)
        yield _at_most(f"{name}, p95", row.latency.p95, level.p95_ms)
        yield _at_most(f"{name}, p99", row.latency.p99, level.p99_ms)


def _at_most(name: str, found_ms: float, allowed_ms: float) -> Check:
    return Check(name, found_ms <= allowed_ms, f"{found_ms:.1f} ms", f"{allowed_ms:g} ms")
