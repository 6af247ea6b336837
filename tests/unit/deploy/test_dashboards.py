"""The dashboards match their generator, and every panel has a description and a unit."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import REGISTRY

import service.app  # noqa: F401 - every metric is registered then
from deploy.grafana.generate import DASHBOARDS, FOLDER, as_json
from deploy.grafana.generate.level import FAILURES, SECONDS
from service.telemetry.metrics import INFERENCE_REQUEST_SECONDS

PROVISIONING = FOLDER.parent / "provisioning"
LOADED = {name: json.loads(as_json(build())) for name, build in DASHBOARDS.items()}

UNITS = {value for value in vars(units).values() if isinstance(value, str)}
COLOURS = {"green", "orange", "red", "transparent"}
BUILT_IN = {"__rate_interval"}
OF_PROMETHEUS = {"ALERTS", "scrape_duration_seconds", "up"}
OF_SEVERAL_PROCESSES = {"processes", "process_restarts_total"}


def panels() -> Iterator[Any]:
    for name, dashboard in LOADED.items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield pytest.param(panel, id=f"{name}: {panel['title']}")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_kept_dashboard_is_the_one_that_is_generated(name: str) -> None:
    kept = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert kept == as_json(DASHBOARDS[name]()), "run `make dashboards`"


def test_there_is_no_dashboard_that_nobody_generates() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_says_what_it_shows_in_which_unit_from_where(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "prometheus"
    for target in panel["targets"]:
        known = ('job="quartet"', "model:inference_", 'ALERTS{alertname=~"Quartet')
        assert any(part in target["expr"] for part in known)
        assert target["legendFormat"] or panel["type"] == "table"
        assert target["datasource"]["uid"] == "prometheus"


@pytest.mark.parametrize("dashboard", LOADED.values(), ids=LOADED)
def test_panels_do_not_overlap_and_fill_their_rows(dashboard: dict[str, Any]) -> None:
    covered: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        across = range(place["x"], place["x"] + place["w"])
        down = range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in across for y in down}
        assert not cells & covered, panel["title"]
        assert place["x"] + place["w"] <= 24
        covered |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("dashboard", LOADED.values(), ids=LOADED)
def test_a_dashboard_has_variables_links_and_marks(dashboard: dict[str, Any]) -> None:
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names >= {"model", "version"}
    used = json.dumps(dashboard["panels"])
    assert all(f"${name}" in used for name in names)
    (link,) = dashboard["links"]
    assert link["includeVars"]
    assert link["keepTime"]
    assert set(link["tags"]) <= set(dashboard["tags"])
    assert [marks["name"] for marks in dashboard["annotations"]["list"]] == ["Loads", "Starts"]


@pytest.mark.parametrize("dashboard", LOADED.values(), ids=LOADED)
def test_grafanas_schema_knows_all_that_is_in_a_dashboard(dashboard: dict[str, Any]) -> None:
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    for one in (read, dashboard):
        # Prometheus' own fields of a mark, which the schema leaves to the data source.
        for marks in one["annotations"]["list"]:
            for name in ("expr", "step", "titleFormat", "textFormat"):
                marks.pop(name, None)
    assert read == dashboard


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_has_a_unit_and_colours_that_grafana_knows(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    steps = defaults.get("thresholds", {"steps": []})["steps"]
    assert {step["color"] for step in steps} <= COLOURS
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))


@pytest.mark.parametrize("dashboard", LOADED.values(), ids=LOADED)
def test_whatever_a_query_names_is_a_variable_of_its_dashboard(dashboard: dict[str, Any]) -> None:
    known = {variable["name"] for variable in dashboard["templating"]["list"]} | BUILT_IN
    asked = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", ())]
    asked += [v["query"]["query"] for v in dashboard["templating"]["list"]]
    assert {name for expr in asked for name in re.findall(r"\$\{?(\w+)", expr)} <= known
    titles = [panel["title"] for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("panel", list(panels()))
def test_a_query_asks_for_metrics_that_the_service_has(panel: dict[str, Any]) -> None:
    """Also those that are empty until something happens, such as a live stream."""
    exported = {name for names in REGISTRY._collector_to_names.values() for name in names}
    asked = [target["expr"] for target in panel.get("targets", ())]
    named = {name for expr in asked for name in re.findall(r"\b([A-Za-z_]{2,})\{", expr)}
    assert named <= exported | OF_PROMETHEUS | OF_SEVERAL_PROCESSES


def test_a_link_leads_from_each_dashboard_to_every_other() -> None:
    for dashboard in LOADED.values():
        (link,) = dashboard["links"]
        reached = [one for one in LOADED.values() if set(link["tags"]) <= set(one["tags"])]
        assert len(reached) == len(LOADED) == len({one["uid"] for one in LOADED.values()})


def test_the_lines_of_the_level_are_where_the_level_is() -> None:
    timed = re.compile(r"quantile.*inference_request_seconds_bucket")
    drawn = [
        panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for dashboard in LOADED.values()
        for panel in dashboard["panels"]
        if any(timed.search(target["expr"]) for target in panel.get("targets", ()))
    ]
    assert drawn == [SECONDS] * 4


def test_the_level_of_latency_is_a_bound_of_the_histogram() -> None:
    assert SECONDS in INFERENCE_REQUEST_SECONDS._kwargs["buckets"]


def test_the_data_source_is_the_one_that_panels_name_and_knows_the_scrape_interval() -> None:
    kept = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())
    (source,) = kept["datasources"]
    prometheus = yaml.safe_load((FOLDER.parents[1] / "prometheus" / "prometheus.yml").read_text())
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


def test_failures_are_what_http_answers_with_429_or_5xx_but_for_faults_of_the_caller() -> None:
    failures = set(FAILURES.split("|"))
    assert {"overloaded", "deadline_exceeded", "internal_error"} <= failures
    assert not {"invalid_input", "model_not_found", "limit_exceeded"} & failures
    assert not {"not_implemented", "http_version_not_supported"} & failures


def test_the_overview_shows_firing_alerts_replicas_and_a_full_device() -> None:
    panels = {panel["title"]: panel for panel in LOADED["overview"]["panels"]}
    asked = {
        title: [target["expr"] for target in panel.get("targets", ())]
        for title, panel in panels.items()
    }
    assert asked["Firing alerts"] == ['ALERTS{alertname=~"Quartet.*", alertstate="firing"}']
    assert asked["Replicas"][0] == 'sum(up{job="quartet"})'
    # Not inference_compute_seconds: in-flight translations overlap on one thread.
    assert [re.findall(r"device_\w+", expr) for expr in asked["Batches on the device"]] == [
        ["device_running_batches"],
        ["device_slots"],
    ]
