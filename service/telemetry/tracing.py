"""OpenTelemetry traces of requests, exported over OTLP. Imported only if traces are enabled.

The spans of a request are made from its timings after it has ended, so tracing costs a request
nothing while it runs. Options that are not settings of Quartet are variables of the SDK:
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_BSP_MAX_QUEUE_SIZE` and so on.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, assert_never

from opentelemetry.context import Context
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.record import PROBES, RequestRecord, Timings
from service.telemetry.request_metrics import (
    TRACE_SPANS,
)

BILLION = 1_000_000_000

Attributes: TypeAlias = dict[str, str | int]

_STEPS = tuple(Timings.__slots__)
_FIRST_SERVER_ERROR = 500
_FIRST_ERROR = 400
_LEFT = "client_left"


class Stage(NamedTuple):
    """One part of a request's time, in nanoseconds since 1970."""

    name: str
    start: int
    end: int


def stages(request: RequestRecord, start: int, end: int) -> Iterator[Stage]:
    """Return the stages of a request, one after the other.

    The pipeline measures how long each step took, not when it began, so the steps are placed one
    after the other from the time the body had been read. For several items only the longest time
    of each step is known; together these may exceed the request, and are cut off at its end.

    Args:
        request: the record of the request.
        start: when its head arrived, in nanoseconds since 1970.
        end: when it ended, likewise.
    """
    if not request.read_at:
        return
    at = min(end, start + int((request.read_at - request.started) * BILLION))
    yield Stage("receive", start, at)
    if request.timings is None:
        return
    for step in _STEPS:
        spent = int(getattr(request.timings, step) * BILLION)
        if spent > 0:
            until = min(end, at + spent)
            yield Stage(step, at, until)
            at = until


def attributes(request: RequestRecord, route: str) -> Attributes:
    """Return the attributes of a request, named by OpenTelemetry's conventions where these apply.

    The path, the query, the headers and the address of the client are left out, because they may
    contain private data.
    """
    found: Attributes = {
        "http.request.method": request.method,
        "url.scheme": request.scheme,
        "network.protocol.version": request.protocol_version,
        "http.request.body.size": request.received,
        "http.response.body.size": request.sent,
        "quartet.request_id": request.request_id,
        "quartet.outcome": request.code,
        "quartet.items": request.item_count,
    }
    if route.startswith("/"):  # the path matched a route
        found["http.route"] = route
    if request.status and request.code != _LEFT:
        found["http.response.status_code"] = request.status
    if request.status >= _FIRST_ERROR or not request.status:
        found["error.type"] = request.code
    if request.model is not None:
        found["quartet.model.name"] = request.model.name
        found["quartet.model.version"] = request.model.version
    if request.cache is not None:
        found["quartet.cache"] = str(request.cache)
    return found


def is_error(request: RequestRecord) -> bool:
    """Return whether the service failed; a 4xx status is no error of a server span."""
    return not request.status or request.status >= _FIRST_SERVER_ERROR


_FLUSH_SECONDS = 3.0
"""Time for the collector to take the remaining spans at a stop; then they are dropped."""

_HTTP_PATH = "/v1/traces"
_PROPAGATOR = TraceContextTextMapPropagator()
_PROPAGATED = frozenset(name.encode() for name in _PROPAGATOR.fields)


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Where to export traces, and of how many requests."""

    protocol: Literal["http", "grpc"]
    endpoint: str | None
    """None uses the standard variables, which default to the standard port of this host."""
    sample_ratio: float
    """Fraction of the requests without a sampling decision of the caller."""
    service_name: str | None
    """None uses `OTEL_SERVICE_NAME`, else "quartet"."""


class RequestTraces:
    """Makes the spans of ended requests; a thread of the SDK exports them in batches.

    The SDK's queue is bounded: while the collector is slow or gone, spans are dropped.
    """

    def __init__(self, exporter: SpanExporter, options: TraceOptions) -> None:
        self._provider = TracerProvider(
            resource=_resource(options),
            sampler=ParentBased(TraceIdRatioBased(options.sample_ratio)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(_Counted(exporter)))
        self._tracer = self._provider.get_tracer("quartet")

    def ended(self, request: RequestRecord, route: str, seconds: float) -> str | None:
        """Make the spans of a request, if it is sampled.

        Returns:
            The trace id, whether the request is sampled or not; None for a probe.
        """
        if route in PROBES:
            return None
        end = time.time_ns()
        start = end - int(seconds * BILLION)
        name = f"{request.method} {route}" if route.startswith("/") else request.method
        caller = _caller(request.metadata)
        root = self._tracer.start_span(name, caller, SpanKind.SERVER, start_time=start)
        if root.is_recording():
            root.set_attributes(attributes(request, route))
            if is_error(request):
                root.set_status(Status(StatusCode.ERROR))
            here = set_span_in_context(root)
            for stage in stages(request, start, end):
                span = self._tracer.start_span(stage.name, here, start_time=stage.start)
                span.end(stage.end)
                _MADE.inc()
            root.end(end)
            _MADE.inc()
        return format_trace_id(root.get_span_context().trace_id)

    def close(self) -> None:
        """Export the remaining spans, for at most `_FLUSH_SECONDS`. Blocking."""
        # The SDK alone would wait for 30 seconds.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_FLUSH_SECONDS)


_MADE = TRACE_SPANS.labels("made")
_EXPORTED = TRACE_SPANS.labels("exported")
_FAILED = TRACE_SPANS.labels("failed")


class _Counted(SpanExporter):
    """Counts the spans that another exporter exports or loses."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            done = result is SpanExportResult.SUCCESS
            (_EXPORTED if done else _FAILED).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def open_traces(options: TraceOptions) -> RequestTraces:
    """Return traces exported as the options say; does not connect yet.

    Raises:
        ImportError: the exporter of this protocol is not installed.
    """
    return RequestTraces(_exporter(options), options)


def _exporter(options: TraceOptions) -> SpanExporter:
    # Each exporter is a package of its own, and the one for gRPC is large.
    match options.protocol:
        case "http":
            from opentelemetry.exporter.otlp.proto.http import (  # noqa: PLC0415
                trace_exporter as over_http,
            )

            return over_http.OTLPSpanExporter(_http_endpoint(options.endpoint))
        case "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415
                trace_exporter as over_grpc,
            )

            return over_grpc.OTLPSpanExporter(options.endpoint)
        case unknown:
            assert_never(unknown)


def _http_endpoint(endpoint: str | None) -> str | None:
    # Like the standard variable, the setting is the address of the collector, without a path.
    if endpoint is None or endpoint.endswith(_HTTP_PATH):
        return endpoint
    return endpoint.rstrip("/") + _HTTP_PATH


def _resource(options: TraceOptions) -> Resource:
    ours = Resource({SERVICE_NAME: "quartet", SERVICE_INSTANCE_ID: str(uuid.uuid4())})
    merged = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
    if options.service_name is None:
        return merged
    return merged.merge(Resource({SERVICE_NAME: options.service_name}))


def _caller(metadata: Mapping[bytes, bytes]) -> Context:
    """Return the context of the span that sent this request; empty if there is none."""
    carried = {
        name.decode("latin-1"): metadata[name].decode("latin-1")
        for name in _PROPAGATED
        if name in metadata
    }
    return _PROPAGATOR.extract(carried, Context())
