"""Every query of every panel, asked of a real Prometheus that watched a known load."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_service import ROOT
from tests.integration.watched_load import WINDOW, Watched, watching_a_load
from tests.prometheus_server import Sample

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.redis,
    pytest.mark.prometheus,
]

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
MODELS = {
    "cards": "detect",
    "digits": "classify",
    "emoji": "embed",
    "news-topics": "classify",
    "zh-en": "translate",
}

EMPTY = {
    ("resources", "GPU memory"): "there is no GPU here",
    ("resources", "GPU busy"): "there is no GPU here",
    ("resources", "Share of models.memory_bytes"): "models.memory_bytes sets no limit here",
    ("resources", "Loads on demand"): "models.memory_bytes sets no limit here",
    ("overview", "Firing alerts"): "no alert fires",
    ("overview", "Refusals by key"): "every key is known, and none has limits",
    ("overview", "Live streams"): "there is no camera here",
    ("overview", "Frames of live streams"): "there is no camera here",
    ("overview", "Age of live frames"): "there is no camera here",
    ("overview", "Dropped by stream"): "there is no camera here",
    ("overview", "Age by stream"): "there is no camera here",
}
IN_FLIGHT = {"zh-en"}
OF_IN_FLIGHT = {
    "Rows in use", "Steps", "Tokens", "Time to first token", "Join wait", "Wasted rows",
}  # fmt: skip
NOT_A_NUMBER = {("Padding", "zh-en"): "what is decoded in flight is not padded"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watching_a_load(tmp_path_factory.mktemp("watched")) as watched:
        yield watched


def panels(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in json.loads(path.read_text())["panels"]:
        assert not panel.get("panels"), "rows are open"
        if panel["type"] != "row":
            yield path.stem, panel


ALL = [pytest.param(*p, id=f"{p[0]}: {p[1]['title']}") for d in DASHBOARDS for p in panels(d)]


def chosen_models(dashboard: str) -> Iterator[tuple[str, str]]:
    if dashboard == "model":
        yield from ((model, "1") for model in MODELS)
    else:
        yield ".*", ".*"


def why_empty(dashboard: str, title: str, model: str) -> str | None:
    if dashboard == "model" and title in OF_IN_FLIGHT and model not in IN_FLIGHT:
        return "nothing of it is decoded in flight"
    return EMPTY.get((dashboard, title))


@pytest.mark.parametrize(("dashboard", "panel"), ALL)
def test_every_query_returns_plausible_data(
    watched: Watched, dashboard: str, panel: dict[str, Any]
) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for model, version in chosen_models(dashboard):
        reason = why_empty(dashboard, panel["title"], model)
        found = {
            t["legendFormat"]: watched.query(t["expr"], model, version) for t in panel["targets"]
        }
        for legend, samples in found.items():
            values = [value for _, value in samples]
            assert bool(values) == (reason is None), (model, legend, reason)
            if (panel["title"], model) in NOT_A_NUMBER:
                assert all(math.isnan(value) for value in values)
                continue
            assert all(math.isfinite(value) and value >= 0 for value in values), (model, samples)
            if unit == "percentunit":
                assert all(value <= 1 for value in values), (model, samples)
        if reason is None and {"p50", "p95", "p99"} <= found.keys():
            p50, p95, p99 = (found[name][0][1] for name in ("p50", "p95", "p99"))
            assert 0 < p50 <= p95 <= p99


LABEL = re.compile(r"\{\{(\w+)\}\}")


@pytest.mark.parametrize(("dashboard", "panel"), ALL)
def test_every_line_has_a_name_of_its_own(
    watched: Watched, dashboard: str, panel: dict[str, Any]
) -> None:
    if panel["type"] == "table":  # a column is a label
        (target,) = panel["targets"]
        (kept,) = (t for t in panel["transformations"] if t["id"] == "filterFieldsByName")
        for labels, _ in watched.query(target["expr"]):
            assert set(kept["options"]["include"]["names"]) <= labels.keys()
        return
    for model, version in chosen_models(dashboard):
        names = []
        for target in panel["targets"]:
            for labels, _ in watched.query(target["expr"], model, version):
                assert set(LABEL.findall(target["legendFormat"])) <= labels.keys(), labels
                names.append(LABEL.sub(lambda found: labels[found[1]], target["legendFormat"]))  # noqa: B023
        assert len(names) == len(set(names)), names


def the_query(dashboard: str, title: str) -> str:
    (path,) = [path for path in DASHBOARDS if path.stem == dashboard]
    (panel,) = [panel for _, panel in panels(path) if panel["title"] == title]
    (target,) = panel["targets"]
    return str(target["expr"])


def assert_close(measured: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Within a tenth; one request more or less at the edge of the window is no fault."""
    assert measured.keys() == expected.keys()
    for key, rate in expected.items():
        assert measured[key] == pytest.approx(rate, rel=0.1, abs=1.0 / WINDOW), (key, rate)


def by(label: str, samples: Sequence[Sample], *, silent: bool = False) -> dict[str, float]:
    return {labels[label]: value for labels, value in samples if value > 0 or silent}


@pytest.mark.parametrize(
    ("title", "label", "what"),
    [
        ("Items by model", "model", "model"),
        ("HTTP responses by status", "status", "status"),
        ("Requests by key", "key", "key"),
    ],
)
def test_rates_are_those_of_the_load(watched: Watched, title: str, label: str, what: str) -> None:
    measured = by(label, watched.query(the_query("overview", title)))
    expected = watched.rates(what)
    if what == "status":
        expected["200"] += 1.0  # Prometheus itself
    assert_close(measured, expected)


def test_the_rate_of_all_items_is_that_of_the_load(watched: Watched) -> None:
    ((_, measured),) = watched.query(the_query("overview", "Items"))
    assert_close({"all": measured}, {"all": sum(watched.rates("model").values())})


def test_rates_by_task_are_those_of_the_tasks_models(watched: Watched) -> None:
    expected: Counter[str] = Counter()
    for model, rate in watched.rates("model").items():
        if model in MODELS:
            expected[MODELS[model]] += rate  # type: ignore[assignment]
    measured = by("task", watched.query(the_query("overview", "Items by task")))
    assert_close(measured, expected)


def test_errors_are_counted_by_their_code(watched: Watched) -> None:
    expected = watched.rates("outcome")
    del expected["ok"]
    assert expected.keys() == {"model_not_found", "deadline_exceeded"}
    assert_close(by("outcome", watched.query(the_query("overview", "Errors by code"))), expected)


def test_availability_counts_what_is_the_services_fault(watched: Watched) -> None:
    outcomes = watched.rates("outcome")
    expected = 1 - outcomes["deadline_exceeded"] / sum(outcomes.values())
    ((_, measured),) = watched.query(the_query("overview", "Availability"))
    assert measured == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_the_rates_of_one_model_are_its_own(watched: Watched, model: str) -> None:
    ((_, items),) = watched.query(the_query("model", "Items"), model, "1")
    assert_close({model: items}, {model: watched.rates("model")[model]})
    outcomes = by("outcome", watched.query(the_query("model", "Outcomes"), model, "1"))
    assert_close(outcomes, watched.rates("outcome", model=model))


def test_what_was_asked_before_is_not_computed_again(watched: Watched) -> None:
    ways = watched.rates("cache", model="news-topics")
    expected = ways["hit"] / sum(ways.values())
    title = "Answered without computing, by model"
    spared = by("model", watched.query(the_query("overview", title)), silent=True)
    assert spared["news-topics"] == pytest.approx(expected, abs=0.1)
    assert spared["digits"] == pytest.approx(0, abs=0.1)  # they were asked for with no-store


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_loads_and_starts_are_marked_and_the_variables_have_values(
    watched: Watched, path: Path
) -> None:
    dashboard = json.loads(path.read_text())
    for marks in dashboard["annotations"]["list"]:
        found = watched.query(marks["expr"])
        assert found, marks["name"]
        assert all(set(LABEL.findall(marks["titleFormat"])) <= labels.keys() for labels, _ in found)
    for variable in dashboard["templating"]["list"]:
        selector, label = (
            variable["query"]["query"].removeprefix("label_values(")[:-1].rsplit(", ", 1)
        )
        values = {labels[label] for labels, _ in watched.query(selector)}
        assert values >= (
            set(MODELS) if label == "model" else {"1"} if label == "version" else set()
        )
        assert values
