"""Spans as the SDK has them, given to an exporter that keeps them."""

import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from service.telemetry import tracing
from service.telemetry.record import RequestRecord
from service.telemetry.tracing import RequestTraces, TraceOptions
from tests.unit.telemetry.fakes import ended

pytestmark = pytest.mark.looptime(False)  # the SDK has threads

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ROUTE = "/v1/classify"


class Collector(SpanExporter):
    """Keeps what it is given; may fail, or never return."""

    def __init__(self, fails: bool = False) -> None:
        self.spans: list[ReadableSpan] = []
        self.fails = fails

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.fails:
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


class Stuck(Collector):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(300)
        return SpanExportResult.SUCCESS


def options(ratio: float = 1.0, service_name: str | None = None) -> TraceOptions:
    return TraceOptions("http", None, ratio, service_name)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def traces(collector: Collector) -> Iterator[RequestTraces]:
    traces = RequestTraces(collector, options())
    yield traces
    traces.close()


def called(flags: str) -> RequestRecord:
    return ended(headers={"traceparent": f"00-{TRACE}-{CALLER}-{flags}", "tracestate": "a=1"})


def spans(result: str) -> float:
    return REGISTRY.get_sample_value("trace_spans_total", {"result": result}) or 0.0


def test_a_request_is_a_server_span_with_its_stages_below_it(
    traces: RequestTraces, collector: Collector
) -> None:
    before = time.time_ns()
    trace_id = traces.ended(ended(), ROUTE, 0.010)
    traces.close()
    *stages, root = collector.spans
    assert (root.name, root.kind, root.parent) == ("POST /v1/classify", SpanKind.SERVER, None)
    assert root.attributes is not None
    assert root.attributes["quartet.model.name"] == "news-topics"
    assert root.start_time is not None
    assert root.end_time is not None
    assert root.end_time - root.start_time == pytest.approx(10_000_000, abs=1000)
    assert before <= root.end_time <= time.time_ns()
    assert [stage.name for stage in stages][1:] == list(ended_steps())
    assert {stage.parent.span_id for stage in stages if stage.parent} == {root.context.span_id}
    assert {format(span.context.trace_id, "032x") for span in collector.spans} == {trace_id}


def ended_steps() -> Sequence[str]:
    return ("cache", "preprocess", "queue", "compute", "postprocess")


def test_a_request_belongs_to_the_trace_of_its_caller(
    traces: RequestTraces, collector: Collector
) -> None:
    assert traces.ended(called("01"), ROUTE, 0.010) == TRACE
    traces.close()
    root = collector.spans[-1]
    assert root.parent is not None
    assert format(root.parent.span_id, "016x") == CALLER
    assert root.parent.is_remote
    assert root.context.trace_state.get("a") == "1"


def test_what_the_caller_does_not_sample_is_not_recorded_but_has_its_trace_id(
    traces: RequestTraces, collector: Collector
) -> None:
    assert traces.ended(called("00"), ROUTE, 0.010) == TRACE
    traces.close()
    assert collector.spans == []


def test_what_the_caller_samples_is_recorded_whatever_the_ratio() -> None:
    collector = Collector()
    traces = RequestTraces(collector, options(ratio=0.0))
    traces.ended(ended(), ROUTE, 0.010)
    traces.ended(called("01"), ROUTE, 0.010)
    traces.close()
    assert [span.name for span in collector.spans].count("POST /v1/classify") == 1


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-{CALLER}-01", "\xff\x00"]
)
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    traces: RequestTraces, collector: Collector, header: str
) -> None:
    trace_id = traces.ended(ended(headers={"traceparent": header}), ROUTE, 0.010)
    traces.close()
    assert trace_id != TRACE
    assert collector.spans[-1].parent is None


def test_probes_are_not_traced(traces: RequestTraces, collector: Collector) -> None:
    assert traces.ended(ended(), "/health/live", 0.010) is None
    traces.close()
    assert collector.spans == []


def test_only_a_fault_of_the_service_is_an_error(
    traces: RequestTraces, collector: Collector
) -> None:
    for status in (200, 422, 500):
        traces.ended(ended(status=status, timings=None, read_at=0.0), ROUTE, 0.010)
    traces.close()
    statuses = [span.status.status_code for span in collector.spans]
    assert statuses == [StatusCode.UNSET, StatusCode.UNSET, StatusCode.ERROR]


@pytest.mark.parametrize("fails", [False, True])
def test_spans_are_counted_by_what_became_of_them(fails: bool) -> None:
    names = ("made", "exported", "failed")
    before = [spans(name) for name in names]
    traces = RequestTraces(Collector(fails), options())
    traces.ended(ended(), ROUTE, 0.010)
    traces.close()
    counted = [spans(name) - count for name, count in zip(names, before, strict=True)]
    assert counted == ([7, 0, 7] if fails else [7, 7, 0])


def test_a_collector_that_takes_nothing_delays_the_stop_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "_FLUSH_SECONDS", 0.2)
    traces = RequestTraces(Stuck(), options())
    traces.ended(ended(), ROUTE, 0.010)
    started = time.monotonic()
    traces.close()
    assert 0.1 < time.monotonic() - started < 60


def test_a_full_queue_drops_spans_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_FLUSH_SECONDS", 0.1)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    traces = RequestTraces(Stuck(), options())
    started = time.monotonic()
    for _ in range(50):
        traces.ended(ended(), ROUTE, 0.010)
    assert time.monotonic() - started < 60
    traces.close()


@pytest.mark.parametrize(
    ("setting", "variable", "name"),
    [(None, None, "quartet"), (None, "fromenv", "fromenv"), ("mine", "fromenv", "mine")],
)
def test_the_service_has_a_name(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, variable: str | None, name: str
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if variable is not None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", variable)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    collector = Collector()
    traces = RequestTraces(collector, options(service_name=setting))
    traces.ended(ended(), ROUTE, 0.010)
    traces.close()
    resource = collector.spans[0].resource.attributes
    assert resource["service.name"] == name
    assert resource["deployment.environment.name"] == "test"
    assert resource["service.instance.id"]
