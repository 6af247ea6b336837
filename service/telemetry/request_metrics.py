"""Metrics of requests over HTTP and gRPC, of keys, and of telemetry itself.

`service/telemetry/metrics.py` has those of models, devices and the cache, and the rules for both.
"""

from prometheus_client import Counter, Gauge, Histogram

from service.telemetry.metrics import REQUEST_SECONDS, STEP_SECONDS

UNKNOWN_KEY = "_unknown_"
_STREAM_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

EVENT_LOOP_LAG_SECONDS = Histogram(
    "event_loop_lag_seconds",
    "Delay of a scheduled call on the event loop, measured twice a second.",
    buckets=STEP_SECONDS,
)
HTTP_REQUESTS = Counter(
    "http_requests",
    "HTTP requests by route template, method, status and protocol of the client.",
    ("route", "method", "status", "protocol"),
)
HTTP_REQUEST_SECONDS = Histogram(
    "http_request_seconds",
    "Time of an HTTP request by route template, including reading the body.",
    ("route",),
    buckets=REQUEST_SECONDS,
)
GRPC_REQUESTS = Counter(
    "grpc_requests", "Calls over gRPC, by method and status.", ("method", "status")
)
GRPC_REQUEST_SECONDS = Histogram(
    "grpc_request_seconds", "Time of a call over gRPC.", ("method",), buckets=REQUEST_SECONDS
)
HTTP_DISCONNECTS = Counter(
    "http_disconnects",
    "Requests whose client disconnected before the answer; their work was cancelled.",
    ("route",),
)
HTTP_ACCEPTS_HELD_BACK = Counter(
    "http_accepts_held_back",
    "Pauses in accepting connections: no file descriptors, or no room for TLS handshakes, left.",
)
TLS_CERTIFICATE_BROKEN = Gauge(
    "tls_certificate_broken",
    "1 while the files of the certificate cannot be used and the previous one stays in use.",
    multiprocess_mode="max",
)
TLS_CERTIFICATE_EXPIRY = Gauge(
    "tls_certificate_expiry_timestamp_seconds",
    "Unix time at which the certificate in use expires, or one that issued it does; 0 without TLS.",
    multiprocess_mode="min",
)
TLS_HANDSHAKES_FAILED = Counter(
    "tls_handshakes_failed",
    "TLS handshakes that the client broke off, did wrong, or did not finish in time.",
)
HTTP_BODY_BYTES = Gauge(
    "http_body_bytes",
    "Bytes of request bodies in memory, counting bodies over 16 KiB.",
    multiprocess_mode="sum",
)
HTTP_BODIES_REFUSED = Counter(
    "http_bodies_refused",
    "Requests refused with 429 because the bodies in memory had reached their limit.",
)
WORKFLOW_INPUTS = Counter(
    "workflow_inputs", "Inputs of workflows; partial: some steps failed.", ("workflow", "outcome")
)
HTTP_STREAMS = Gauge(
    "http_streams", "Open streams, by route template.", ("route",), multiprocess_mode="sum"
)
HTTP_STREAM_SECONDS = Histogram(
    "http_stream_seconds",
    "Duration of a stream; streams are not part of http_request_seconds.",
    ("route",),
    buckets=_STREAM_SECONDS,
)
HTTP_STREAM_FIRST_SECONDS = Histogram(
    "http_stream_first_seconds",
    "Time from a request to the first event of its stream.",
    ("route",),
    buckets=REQUEST_SECONDS,
)
ACCESS_REQUESTS = Counter(
    "access_requests",
    "Requests with a known key, by its name in the keys file.",
    ("key",),
)
ACCESS_REFUSALS = Counter(
    "access_refusals",
    "Requests refused because of their key, by its name and the error code.",
    ("key", "code"),
)
ACCESS_USAGE = Counter(
    "access_usage",
    "What the requests of a key used, by unit: items, characters or pixels.",
    ("key", "unit"),
)
ACCESS_KEYS = Gauge("access_keys", "Entries of the keys file in use.", multiprocess_mode="max")
ACCESS_KEYS_FILE_BROKEN = Gauge(
    "access_keys_file_broken",
    "1 while the keys file cannot be used and the previous keys stay valid.",
    multiprocess_mode="max",
)
ACCESS_LOCAL_DECISIONS = Counter(
    "access_local_decisions",
    "Limits checked in this process alone because Redis did not answer.",
)
LOG_EVENTS_DROPPED = Counter(
    "log_events_dropped", "Log events dropped because the reader of the log was too slow or gone."
)
TRACE_SPANS = Counter(
    "trace_spans",
    "Spans by result: made, exported or failed; the difference is waiting or was dropped.",
    ("result",),
)
