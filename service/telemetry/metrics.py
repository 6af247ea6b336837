"""Every metric of the service, declared once. Names are in base units, labels are bounded.

A label never comes from user input: an unknown model counts under `UNKNOWN_MODEL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry.live_gauge import LiveGauge

UNKNOWN_MODEL = "_unknown_"

_STEP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
_STREAM_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)

_VERSION = ("model", "version")

INFERENCE_REQUESTS = Counter(
    "inference_requests",
    "Items asked for, by outcome: ok, or the error's code.",
    (*_VERSION, "outcome"),
)
INFERENCE_REQUEST_SECONDS = Histogram(
    "inference_request_seconds",
    "Time of one item from the HTTP border and back, cache hits included.",
    _VERSION,
    buckets=_REQUEST_SECONDS,
)
INFERENCE_QUEUE_SECONDS = Histogram(
    "inference_queue_seconds",
    "Time an item waited for its batch to start.",
    _VERSION,
    buckets=_STEP_SECONDS,
)
INFERENCE_COMPUTE_SECONDS = Histogram(
    "inference_compute_seconds",
    "Time of one batch on its thread; of translations in flight, from joining to the result.",
    _VERSION,
    buckets=_STEP_SECONDS,
)
INFERENCE_BATCH_SIZE = Histogram(
    "inference_batch_size",
    "Items in a batch; sum over count is the mean batch.",
    _VERSION,
    buckets=_BATCH_SIZES,
)
INFERENCE_PADDING_RATIO = Histogram(
    "inference_padding_ratio",
    "Share of a batch's padded cost (tokens or pixels) that was padding.",
    _VERSION,
    buckets=_RATIOS,
)
INFERENCE_PENDING_REQUESTS = LiveGauge(
    "inference_pending_requests",
    "Items accepted and not yet started.",
    _VERSION,
)
INFERENCE_RUNNING_BATCHES = LiveGauge(
    "inference_running_batches",
    "Batches on the device now.",
    _VERSION,
)
INFLIGHT_ROWS = LiveGauge(
    "inflight_rows",
    "Rows (hypotheses) that the translations now running may come to take.",
    _VERSION,
)
INFLIGHT_STEPS = Counter(
    "inflight_steps",
    "Decoder steps run for all running translations at once.",
    _VERSION,
)
INFLIGHT_STEP_ROWS = Counter(
    "inflight_step_rows",
    "Rows computed by steps; over inflight_steps_total it is the mean batch.",
    _VERSION,
)
INFLIGHT_WASTED_ROWS = Counter(
    "inflight_wasted_rows",
    "Rows computed for callers who had left by the end of the step.",
    _VERSION,
)
INFLIGHT_TOKENS = Counter(
    "inflight_tokens",
    "Tokens written: one a step for each running translation, whatever its beams.",
    _VERSION,
)
INFLIGHT_JOIN_SECONDS = Histogram(
    "inflight_join_seconds",
    "Time a translation waited until it joined the running ones.",
    _VERSION,
    buckets=_STEP_SECONDS,
)
INFLIGHT_FIRST_TOKEN_SECONDS = Histogram(
    "inflight_first_token_seconds",
    "Time from the arrival of a translation to its first token.",
    _VERSION,
    buckets=_REQUEST_SECONDS,
)
INFERENCE_ISOLATED_FAILURES = Counter(
    "inference_isolated_failures",
    "Items that failed alone after their batch was retried in halves.",
    _VERSION,
)
INFERENCE_STOPPED_RUNS = Counter(
    "inference_stopped_runs",
    "Runs told to stop: all their callers had left or were past their deadlines, or the model was "
    "unloaded.",
    _VERSION,
)
INFERENCE_OVERDUE_RUNS = Gauge(
    "inference_overdue_runs",
    "Runs that go on half a second after they were told to stop; each holds a slot of the device.",
    _VERSION,
)
INFERENCE_INLINE_OVERRUNS = Counter(
    "inference_inline_overruns",
    "Runs that kept the event loop for longer than warm-up let expect; the version's later runs "
    "go to the device's threads.",
    _VERSION,
)
EVENT_LOOP_LAG_SECONDS = Histogram(
    "event_loop_lag_seconds",
    "How late the event loop was with a call, twice a second.",
    buckets=_STEP_SECONDS,
)
DEVICE_MEMORY_EXHAUSTED = Counter(
    "device_memory_exhausted",
    "Batches that the device had no memory for; each lowers the model's batch ceiling.",
    _VERSION,
)
MODEL_STATE = Gauge(
    "model_state",
    "1 for the state that a version is in, 0 for the others.",
    (*_VERSION, "state"),
)
MODEL_READY = Gauge(
    "model_ready",
    "1 while a wanted model can answer, 0 while it cannot; absent once it was unloaded.",
    ("model",),
)
MODEL_INFO = Gauge(
    "model_info",
    "Always 1; what is loaded, where, in which precision and with which content digest.",
    (*_VERSION, "task", "family", "precision", "device", "digest"),
)
MODEL_LOAD_SECONDS = Gauge(
    "model_load_seconds",
    "Time the last load of a version took, warm-up and golden check included.",
    _VERSION,
)
MODEL_GOLDEN_DEVIATION = Gauge(
    "model_golden_deviation",
    "Largest deviation from the recorded reference answers at load.",
    _VERSION,
)
MODEL_GOLDEN_FLIPS = Gauge(
    "model_golden_flips",
    "Goldens whose answer at load decides otherwise than the recorded one (another best label).",
    _VERSION,
)
MODEL_BATCH_DEVIATION = Gauge(
    "model_batch_deviation",
    "Largest deviation, at load, of a golden's answer in company from its answer alone.",
    _VERSION,
)
MODEL_GOLDEN_TOLERANCE = Gauge(
    "model_golden_tolerance",
    "Largest deviation that the version's precision allows.",
    _VERSION,
)
MODEL_QUEUE_LIMIT = Gauge(
    "model_queue_limit",
    "Items that may wait in each queue of a version; more are refused.",
    _VERSION,
)
MODEL_BATCH_LIMIT = Gauge(
    "model_batch_limit",
    "The batch size that the measured curve favours, by lane.",
    (*_VERSION, "lane"),
)
MODEL_LOADING_SECONDS = LiveGauge(
    "model_loading_seconds",
    "Time that the load now running has taken, by its phase; absent when no load runs.",
    ["model", "version", "phase"],
)
MODEL_FALLBACK = Gauge(
    "model_fallback",
    "1 for a version that serves because every newer one was refused at its load.",
    ["model", "version"],
)
MODEL_LOADS = Counter(
    "model_loads",
    "Loads of a model by result: ok or failed.",
    ("model", "result"),
)
RESPONSE_CACHE_LOOKUPS = Counter(
    "response_cache_lookups",
    "Look-ups by level (memory, redis, codec) and result (hit, miss, error, rejected).",
    ("level", "result"),
)
RESPONSE_CACHE_REDIS_SECONDS = Histogram(
    "response_cache_redis_seconds",
    "Time an item waited for its look-up in Redis.",
    buckets=_STEP_SECONDS,
)
RESPONSE_CACHE_ENTRIES = Gauge("response_cache_entries", "Answers held in memory.")
RESPONSE_CACHE_BYTES = Gauge("response_cache_bytes", "Bytes of the answers held in memory.")
RESPONSE_CACHE_WRITES_DROPPED = Counter(
    "response_cache_writes_dropped",
    "Answers not written to Redis because its queue was full or it was unreachable.",
)
RESPONSE_CACHE_BREAKER_OPEN = Gauge(
    "response_cache_breaker_open",
    "1 while Redis is left alone after repeated faults.",
)
SINGLE_FLIGHT_SHARED = Counter(
    "single_flight_shared",
    "Items answered by an identical item's computation that was already running.",
)
HTTP_REQUESTS = Counter(
    "http_requests",
    "HTTP requests by route template, method and status.",
    ("route", "method", "status"),
)
HTTP_REQUEST_SECONDS = Histogram(
    "http_request_seconds",
    "Time of an HTTP request by route template, body reading included.",
    ("route",),
    buckets=_REQUEST_SECONDS,
)
HTTP_DISCONNECTS = Counter(
    "http_disconnects",
    "Requests whose client left before the answer; their work was cancelled.",
    ("route",),
)
HTTP_ACCEPTS_HELD_BACK = Counter(
    "http_accepts_held_back",
    "Times that connections had to wait to be accepted, since file descriptors had run out.",
)
HTTP_BODY_BYTES = Gauge(
    "http_body_bytes",
    "Bytes of request bodies held now, of those over 16 KiB.",
)
HTTP_BODIES_REFUSED = Counter(
    "http_bodies_refused",
    "Requests refused with 429 because other large bodies held all bytes that bodies may take.",
)
HTTP_STREAMS = Gauge(
    "http_streams",
    "Streams that are being told now, by route template.",
    ("route",),
)
HTTP_STREAM_SECONDS = Histogram(
    "http_stream_seconds",
    "Time of a stream to its end; http_request_seconds does not count streams.",
    ("route",),
    buckets=_STREAM_SECONDS,
)
HTTP_STREAM_FIRST_SECONDS = Histogram(
    "http_stream_first_seconds",
    "Time from the arrival of a request to the first piece of its stream.",
    ("route",),
    buckets=_REQUEST_SECONDS,
)
LOG_EVENTS_DROPPED = Counter(
    "log_events_dropped",
    "Events not written because whoever reads the log was too slow or gone.",
)
TRACE_SPANS = Counter(
    "trace_spans",
    "Spans by what became of them: made, exported or failed; the rest wait or were dropped.",
    ("result",),
)
DEVICE_INFO = Gauge(
    "device_info",
    "Always 1; the device that runs the models, its execution provider and its threads.",
    ("device", "provider", "threads"),
)
DEVICE_MEMORY_BYTES = Gauge(
    "device_memory_bytes",
    "Memory of the GPU by kind (used, total); absent on CPU.",
    ("device", "kind"),
)
DEVICE_UTILISATION_RATIO = Gauge(
    "device_utilisation_ratio",
    "Share of time the GPU was busy; absent on CPU.",
    ("device",),
)


@dataclass(frozen=True, slots=True)
class DeclaredMetric:
    """A metric as the documentation lists it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


def declared_metrics() -> Sequence[DeclaredMetric]:
    """Return every metric of this module, by name as it is exposed."""
    declared = (value for value in globals().values() if isinstance(value, MetricWrapperBase))
    described = chain.from_iterable(
        ((metric, family) for family in metric.describe()) for metric in declared
    )
    return sorted(
        (
            DeclaredMetric(
                family.name + ("_total" if family.type == "counter" else ""),
                family.type,
                family.documentation,
                tuple(metric._labelnames),
            )
            for metric, family in described
        ),
        key=lambda metric: metric.name,
    )
