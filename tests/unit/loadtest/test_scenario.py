import tomllib
from pathlib import Path

import pytest

from deploy.grafana.generate.level import AVAILABILITY, LATENCY, SECONDS
from loadtest.kinds import FOREIGN, UNSERVED, Kind, Task
from loadtest.scenario import FOLDER, Scenario, find
from tests.sentences import sentence
from tests.unit.loadtest.scenarios import scenario

SHIPPED = sorted(FOLDER.glob("*.toml"))
SMOKE = (FOLDER / "smoke.toml").read_text(encoding="utf-8")


def test_the_promised_scenarios_are_there() -> None:
    promised = {"smoke", "protocols", "steady", "burst", "soak", "overload"}
    assert {path.stem for path in SHIPPED} == promised


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_asks_every_kind_of_every_task(path: Path) -> None:
    run = Scenario.parse(path.read_text(encoding="utf-8"))
    asked = set(Kind) - UNSERVED - (frozenset() if path.stem == "protocols" else FOREIGN)
    assert set(run.mix) == asked
    assert set(run.tasks()) == set(Task)


def test_smoke_takes_under_a_minute_even_with_a_slow_start() -> None:
    assert Scenario.parse(SMOKE).seconds <= 30


@pytest.mark.parametrize(
    "change",
    [
        ("rate = 30.0", "rates = 30.0"),
        ("rate = 30.0", "rate = -1.0"),
        ("rate = 30.0", "rate = inf"),
        ("settle_seconds = 3.0", "settle_seconds = 25.0"),
        ('level = "usual"', 'level = "other"'),
        ("translate = 20\n", ""),
        ('"detect" = { share', '"dream" = { share'),
        ("seconds = 25.0", "seconds = 90000.0"),
        ("rate = 30.0", "rate = 3000000.0"),
        ("p50_ms = 40, ", ""),
    ],
)
def test_a_scenario_that_cannot_be_meant_is_refused(change: tuple[str, str]) -> None:
    assert change[0] in SMOKE
    with pytest.raises(ValueError, check=sentence):
        Scenario.parse(SMOKE.replace(*change))


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        Scenario.parse("stages = [")


def test_a_scaled_scenario_is_as_strict_about_latency() -> None:
    run = Scenario.parse((FOLDER / "overload.toml").read_text(encoding="utf-8"))
    scaled = run.scaled(time=0.5, rate=2.0)
    assert scaled.seconds == run.seconds / 2
    assert [s.rate for s in scaled.stages] == [2 * s.rate for s in run.stages]
    assert scaled.levels == run.levels
    floors = [stage.min_answered_rate for stage in run.stages]
    assert [stage.min_answered_rate for stage in scaled.stages] == floors
    assert any(floors)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_a_senseless_factor_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, check=sentence):
        scenario().scaled(time=factor)


def test_a_scenario_is_found_by_name_or_path(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(SMOKE, encoding="utf-8")
    assert find("smoke") == FOLDER / "smoke.toml"
    assert find(str(own)) == own
    with pytest.raises(ValueError, check=sentence):
        find("nothing")


def test_shares_of_the_tasks_add_up() -> None:
    run = scenario()
    assert run.share(Task.CLASSIFY) == pytest.approx(2 / 3)
    assert sum(run.share(task) for task in run.tasks()) == pytest.approx(1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_scenario_that_holds_keeps_the_level_that_alerts_and_dashboards_judge_by(
    path: Path,
) -> None:
    run = Scenario.parse(path.read_text(encoding="utf-8"))
    usual = [stage for stage in run.stages if stage.level == "usual"]
    assert usual
    for stage in usual:
        assert stage.refusals == "none"
        assert stage.max_error_share <= 1 - AVAILABILITY
    assert LATENCY == 0.99  # which is why it is p99 that is compared
    for kind, level in run.levels["usual"].items():
        assert level.p50_ms <= level.p95_ms <= level.p99_ms <= 1000 * SECONDS, kind


def test_an_overload_is_judged_by_refusals_and_a_bound_of_what_is_accepted() -> None:
    run = Scenario.parse((FOLDER / "overload.toml").read_text(encoding="utf-8"))
    before, eve, storm, recovery = run.stages
    assert {before.level, recovery.level} == {"usual"}
    assert (storm.refusals, recovery.refusals) == ("expected", "none")
    assert storm.max_refusal_p99_ms is not None
    assert storm.max_refusal_p99_ms <= 500
    assert all(
        level.p99_ms < 1000 * run.timeout_seconds for level in run.levels[storm.level].values()
    )
    assert (eve.level, eve.refusals) == (storm.level, "none")
    assert eve.seconds <= 1  # no longer than a translation may take
