import importlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import show, write_json
from benchmarks.results import (
    Bare,
    CacheResult,
    IdleLatency,
    Inside,
    OverloadResult,
    Reading,
    Results,
    StartersResult,
    SubjectResult,
)
from benchmarks.samples import Latencies, Load
from benchmarks.servers import Memory
from benchmarks.targets import checks


def load(count: int, refused: Mapping[int, Latencies] | None = None) -> Load:
    return Load(10.0, Latencies(count, 0.01, 0.01, 0.015, 0.015), refused or {}, 0, 0.01)


INSIDE = Inside(
    mean_batch=4.0, padding=0.1, queue=0.02, compute=0.03, running=1.9, cpu=1.95, loop_per_item=2e-4
)


def reading(concurrency: int, rate: float) -> Reading:
    return Reading(concurrency, 95.0, 105.0, load(int(10 * rate)), load(500), INSIDE)


def subject(name: str = "distilbert", rate: float = 110.0) -> SubjectResult:
    return SubjectResult(
        name,
        [Bare(1, 100.0, 100.0, 60.0), Bare(8, 160.0, 120.0, 110.0)],
        [reading(c, rate) for c in (1, 8, 32, 64)] + [reading(32, rate + 20)],
        [IdleLatency(0.0061, 0.005, 0.007)],
        Memory(200.0, 180.0),
        Memory(250.0, 200.0),
        Memory(220.0, 180.0),
        1.0,
    )


REFUSED_QUICKLY = {429: Latencies(9, 0.001, 0.002, 0.003, 0.04)}

RESULTS = Results(
    {"cores": 2},
    {"seconds": 8, "out": Path("x")},
    [subject()],
    CacheResult(load(60_000), 1.0),
    OverloadResult(256, load(1000), 1100.0, load(900, refused=REFUSED_QUICKLY)),
    StartersResult(["a", "b"], [7.0, 8.0, 9.0], Memory(400.0, 390.0), Memory(500.0, 480.0), 0.004),
)


def met(results: Results) -> dict[str, bool]:
    return {check.promise: check.is_met for check in checks(results)}


def test_good_results_keep_every_promise() -> None:
    assert all(met(RESULTS).values())
    assert len(met(RESULTS)) >= 15


def test_rounds_of_one_concurrency_count_by_their_median() -> None:
    found = subject()
    assert found.ratio_at(32) == pytest.approx(1.2)
    assert found.ratio_at(64) == pytest.approx(1.1)
    assert found.ratio_at(16) is None
    assert found.best_bare == 160.0


def test_a_slow_point_misses_its_own_promise_only() -> None:
    slow = replace(RESULTS, subjects=[subject(rate=104.0)])
    missed = [promise for promise, is_met in met(slow).items() if not is_met]
    assert missed == ["distilbert: of the limit at 64"]


def test_one_slow_refusal_is_missed() -> None:
    over = load(900, refused={429: Latencies(9, 0.001, 0.002, 0.003, 0.051)})
    results = replace(RESULTS, overload=OverloadResult(256, load(1000), 1100.0, over))
    assert not met(results)["overload: slowest refusal"]


def test_one_request_shed_below_the_limit_is_missed() -> None:
    within = load(1000, refused={429: Latencies(1, 0.0, 0.0, 0.0, 0.0)})
    results = replace(RESULTS, overload=OverloadResult(256, within, 1100.0, load(900)))
    assert not met(results)["overload: shed although the queue had room"]


def test_what_was_not_measured_is_not_promised() -> None:
    assert met(Results({}, {})) == {}


def test_idle_latency_is_compared_with_the_wide_or_the_better_session() -> None:
    idle = IdleLatency(http_p50=0.010, wide_p50=0.009, narrow_p50=0.008)
    assert idle.over_wide == pytest.approx(0.001)
    assert idle.over_best == pytest.approx(0.002)


def test_everything_is_written_as_json_and_shown(tmp_path: Path) -> None:
    write_json(RESULTS, tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["summary"]["distilbert"][2]["of limit"] == "1.200"
    assert all(check["is_met"] for check in content["checks"])
    shown = io.StringIO()
    show(RESULTS, Console(file=shown, width=200))
    assert "1.200" in shown.getvalue()
    assert "missed" not in shown.getvalue()


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the extra `bench` brings matplotlib")
    draw = importlib.import_module("benchmarks.plot").draw

    draw(RESULTS, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
