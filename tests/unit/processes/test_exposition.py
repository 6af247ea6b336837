"""Metrics of several processes together."""

import json

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from service.processes.exposition import Exposition, Snapshot, lasting, merged, snapshot
from service.telemetry import metrics, request_metrics, video_metrics


def process(value: float) -> Snapshot:
    registry = CollectorRegistry()
    Counter("asked", "Asked.", ["kind"], registry=registry).labels("a").inc(value)
    histogram = Histogram("seconds", "Seconds.", buckets=(1, 2), registry=registry)
    histogram.observe(value)
    for mode in ("sum", "min", "max"):
        gauge = Gauge(f"{mode}_of", "Of.", registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
        gauge.set(value)
    found: Snapshot = json.loads(json.dumps(snapshot(registry)))  # as it is sent
    return found


def values(found: Snapshot) -> dict[str, float]:
    text = generate_latest(Exposition(found, 2, {"process_restarts": 1})).decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows if "_created" not in name}


def test_counters_are_added_and_gauges_joined_by_their_mode() -> None:
    assert values(merged([process(1), process(3)])) == {
        "processes": 2,
        "process_restarts_total": 1,
        "process_requests_retried_total": 0,
        "process_requests_lost_total": 0,
        'asked_total{kind="a"}': 4,
        'seconds_bucket{le="1.0"}': 1,
        'seconds_bucket{le="2.0"}': 1,
        'seconds_bucket{le="+Inf"}': 2,
        "seconds_count": 2,
        "seconds_sum": 4,
        "sum_of": 4,
        "min_of": 1,
        "max_of": 3,
    }


def test_an_ended_process_keeps_its_counters_and_loses_its_gauges() -> None:
    ended = lasting(process(5))
    assert values(merged([ended, process(1)]))['asked_total{kind="a"}'] == 6
    assert values(merged([ended, process(1)]))["sum_of"] == 1


def test_the_series_of_a_hundred_ended_processes_are_those_of_one() -> None:
    ended: Snapshot = {}
    for _ in range(100):
        ended = merged([ended, lasting(process(1))])
    assert values(ended)['asked_total{kind="a"}'] == 100
    assert len(values(ended)) == len(values(lasting(process(1))))


def test_a_value_that_json_does_not_have_is_left_out() -> None:
    assert merged([{"one": ("gauge", "One.", "max", [("one", [], None)])}])["one"][3] == []


@pytest.mark.parametrize("module", [metrics, request_metrics, video_metrics])
def test_every_gauge_says_how_those_of_several_processes_are_joined(module: object) -> None:
    gauges = [one for one in vars(module).values() if isinstance(one, Gauge)]
    assert gauges
    assert all(isinstance(one, MetricWrapperBase) for one in gauges)
    modes = {one._name: one._multiprocess_mode for one in gauges}
    assert {name for name, mode in modes.items() if mode not in ("sum", "min", "max")} == set()
