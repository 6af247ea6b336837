"""A real service, its log, and a real receiver of its traces."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.otlp_collector import (
    Collector,
    attributes,
    collecting_grpc,
    collecting_http,
)
from tests.integration.real_service import RealService, real_service
from tests.redis_server import free_port

pytestmark = [pytest.mark.looptime(False)]

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "mine-1"}
TEXT = "A headline of nobody's business"
ONE_MODEL = ("--models.only", "news-topics", "--models.warm-up-seconds", "0.05")
STEPS = {"cache", "preprocess", "queue", "compute", "postprocess"}


def ask(service: RealService, text: str = TEXT, **request: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/classify", json={"text": text}, timeout=60, **request)


def requests(service: RealService) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in service.log.splitlines()]
    return [e for e in events if e["event"] == "request" and e["route"] == "/v1/classify"]


@pytest.mark.parametrize(
    ("protocol", "collecting"), [("http", collecting_http), ("grpc", collecting_grpc)]
)
def test_a_request_is_a_trace_in_the_collector_and_a_line_in_the_log(
    tmp_path: Path, protocol: str, collecting: Callable[[], AbstractContextManager[Collector]]
) -> None:
    with collecting() as collector:
        options = ("--traces.exporter", protocol, "--traces.endpoint", collector.endpoint)
        with real_service(tmp_path, *ONE_MODEL, *options) as service:
            before = time.time_ns()
            assert ask(service, headers=TRACED).status_code == 200
            after = time.time_ns()
            ask(service)
            ask(service, text="")
        computed, hit, refused = collector.named("POST /v1/classify")

    assert (computed.trace_id.hex(), computed.parent_span_id.hex()) == (TRACE, CALLER)
    assert computed.kind == computed.SPAN_KIND_SERVER
    said = attributes(computed)
    assert said["http.route"] == "/v1/classify"
    assert said["http.response.status_code"] == 200
    assert said["quartet.model.name"] == "news-topics"
    assert [attributes(span)["quartet.cache"] for span in (computed, hit)] == ["miss", "hit"]
    assert attributes(refused)["error.type"] == "invalid_input"
    assert collector.resources[0]["service.name"] == "quartet"
    assert TEXT not in str(collector.spans)
    check_stages(collector, computed, before, after)
    hit_stages = {s.name for s in collector.spans if s.parent_span_id == hit.span_id}
    assert hit_stages == {"receive", "cache"}
    check_lines(service)


def check_stages(collector: Collector, computed: Span, before: int, after: int) -> None:
    below = [span for span in collector.spans if span.parent_span_id == computed.span_id]
    assert {span.name for span in below} == STEPS | {"receive"}
    moments = [moment for s in below for moment in (s.start_time_unix_nano, s.end_time_unix_nano)]
    begun, ended = computed.start_time_unix_nano, computed.end_time_unix_nano
    slack = 5_000_000  # the client has its answer before the request has ended
    assert before - slack < begun <= min(moments)
    assert max(moments) <= ended < after + slack * 10


def check_lines(service: RealService) -> None:
    first, second, third = requests(service)
    assert (first["request_id"], first["trace_id"]) == ("mine-1", TRACE)
    assert (first["cache"], second["cache"]) == ("miss", "hit")
    assert 0 < sum(first[f"{step}_seconds"] for step in STEPS) <= first["seconds"]
    assert (third["status"], third["outcome"]) == (422, "invalid_input")
    assert TEXT not in service.log


def test_a_collector_that_does_not_answer_costs_no_request_and_a_bounded_stop(
    tmp_path: Path,
) -> None:
    with collecting_http() as collector:
        collector.answers.clear()
        options = ("--traces.exporter", "http", "--traces.endpoint", collector.endpoint)
        with real_service(tmp_path, *ONE_MODEL, *options) as service:
            assert {ask(service).status_code for _ in range(100)} == {200}
            started = time.monotonic()
            service.process.terminate()
            assert service.process.wait(120) == 0
            assert time.monotonic() - started < 60


def test_without_a_collector_requests_are_answered_all_the_same(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    options = ("--traces.exporter", "http", "--traces.endpoint", nowhere)
    with real_service(tmp_path, *ONE_MODEL, *options) as service:
        assert {ask(service).status_code for _ in range(20)} == {200}
        service.process.terminate()
        assert service.process.wait(120) == 0


def test_under_load_the_log_holds_a_sample_and_says_how_many_it_left_out(tmp_path: Path) -> None:
    options = ("--logs.requests-per-second", "2", "--logs.format", "json")
    with real_service(tmp_path, *ONE_MODEL, *options) as service, httpx.Client() as client:
        started, asked = time.monotonic(), 0
        until = started + 2.5
        while time.monotonic() < until:
            client.post(f"{service.url}/v1/classify", json={"text": TEXT})
            asked += 1
        time.sleep(1.1)
        client.post(f"{service.url}/v1/classify", json={"text": TEXT})
        seconds = time.monotonic() - started
    lines = requests(service)
    assert asked > len(lines)
    assert len(lines) <= 2 * (seconds + 1)
    assert len(lines) + sum(line.get("unlogged", 0) for line in lines) == asked + 1
