"""Every metric of the service, declared once. Names are in base units, labels are bounded.

A label never comes from user input: an unknown model counts under `UNKNOWN_MODEL`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

UNKNOWN_MODEL = "_unknown_"

_STEP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)

_VERSION = ("model", "version")

_EXPECTED_OUTCOMES = (
    "ok",
    "overloaded",
    "deadline_exceeded",
    "inference_failed",
    "device_memory",
    "internal_error",
)
"""Counted from zero: to Prometheus, a series that appears with its first count did not rise."""

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
INFERENCE_PENDING_REQUESTS = Gauge(
    "inference_pending_requests",
    "Items accepted and not yet started.",
    _VERSION,
)
INFERENCE_RUNNING_BATCHES = Gauge(
    "inference_running_batches",
    "Batches on the device now.",
    _VERSION,
)
INFLIGHT_ROWS = Gauge(
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


@dataclass(slots=True)
class TurnReport:
    """What an instance that batches in flight did in a turn; times in seconds."""

    steps: int = 0
    rows: int = 0
    """Rows computed, over all steps."""
    wasted_rows: int = 0
    """Of them, rows of works that nobody waited for any more when the step was done."""
    tokens: int = 0
    """Works brought one token further, over all steps."""
    join_waits: list[float] = field(default_factory=list)
    """What each newcomer had waited."""
    first_tokens: list[float] = field(default_factory=list)
    """From a work's arrival to its first token."""
    computed: list[float] = field(default_factory=list)
    """From joining to the result, of each work that was done."""
    isolated: int = 0
    """Works that failed alone."""
    memory_exhausted: int = 0
    """Steps that the device had no memory for."""


class SilentMeter:
    """Counts nothing: for a version that only its own goldens ask, before it is ready."""

    def request(self, outcome: str, seconds: float) -> None:
        """Forget an item."""

    def watch(self, state: Callable[[], tuple[int, int]]) -> None:
        """Do not ask what waits and runs."""

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        """Forget a batch."""

    def isolated(self) -> None:
        """Forget a failure."""

    def memory_exhausted(self) -> None:
        """Forget a lack of memory."""

    def turn(self, report: TurnReport) -> None:
        """Forget a turn."""

    def watch_rows(self, rows: Callable[[], int]) -> None:
        """Do not ask how many rows are in use."""


class ModelMeter(SilentMeter):
    """The series of one version, bound once so that counting costs no look-up."""

    def __init__(self, model: str, version: int) -> None:
        self._labels = (model, str(version))
        self._requests: dict[str, Counter] = {
            outcome: INFERENCE_REQUESTS.labels(*self._labels, outcome)
            for outcome in _EXPECTED_OUTCOMES
        }
        self._request_seconds = INFERENCE_REQUEST_SECONDS.labels(*self._labels)
        self._queue_seconds = INFERENCE_QUEUE_SECONDS.labels(*self._labels)
        self._compute_seconds = INFERENCE_COMPUTE_SECONDS.labels(*self._labels)
        self._batch_size = INFERENCE_BATCH_SIZE.labels(*self._labels)
        self._padding_ratio = INFERENCE_PADDING_RATIO.labels(*self._labels)
        self._isolated = INFERENCE_ISOLATED_FAILURES.labels(*self._labels)
        self._exhausted = DEVICE_MEMORY_EXHAUSTED.labels(*self._labels)
        self._inflight: _InFlightSeries | None = None

    def request(self, outcome: str, seconds: float) -> None:
        """Count one item by its outcome: "ok" or an error's code."""
        if outcome not in self._requests:
            self._requests[outcome] = INFERENCE_REQUESTS.labels(*self._labels, outcome)
        self._requests[outcome].inc()
        self._request_seconds.observe(seconds)

    def watch(self, state: Callable[[], tuple[int, int]]) -> None:
        """Ask at every scrape how many works wait and how many batches run."""
        INFERENCE_PENDING_REQUESTS.labels(*self._labels).set_function(lambda: state()[0])
        INFERENCE_RUNNING_BATCHES.labels(*self._labels).set_function(lambda: state()[1])

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        """Record one computed batch."""
        self._batch_size.observe(len(lengths))
        self._compute_seconds.observe(seconds)
        self._padding_ratio.observe(1.0 - sum(lengths) / (len(lengths) * max(lengths)))
        for waited in queued:
            self._queue_seconds.observe(waited)

    def isolated(self) -> None:
        """Record a work that failed alone."""
        self._isolated.inc()

    def memory_exhausted(self) -> None:
        """Record a batch that the device had no memory for."""
        self._exhausted.inc()

    def turn(self, report: TurnReport) -> None:
        """Record what was done in flight."""
        if self._inflight is None:
            self._inflight = _InFlightSeries(self._labels)
        self._inflight.count(report)
        for waited in report.join_waits:
            self._queue_seconds.observe(waited)
        for seconds in report.computed:
            self._compute_seconds.observe(seconds)
        self._isolated.inc(report.isolated)
        self._exhausted.inc(report.memory_exhausted)

    def watch_rows(self, rows: Callable[[], int]) -> None:
        """Ask at every scrape how many rows are in use."""
        INFLIGHT_ROWS.labels(*self._labels).set_function(rows)


class _InFlightSeries:
    """The series of a version that is batched in flight; others do not have them."""

    def __init__(self, labels: tuple[str, str]) -> None:
        self._steps = INFLIGHT_STEPS.labels(*labels)
        self._step_rows = INFLIGHT_STEP_ROWS.labels(*labels)
        self._wasted_rows = INFLIGHT_WASTED_ROWS.labels(*labels)
        self._tokens = INFLIGHT_TOKENS.labels(*labels)
        self._join_seconds = INFLIGHT_JOIN_SECONDS.labels(*labels)
        self._first_token_seconds = INFLIGHT_FIRST_TOKEN_SECONDS.labels(*labels)

    def count(self, report: TurnReport) -> None:
        self._steps.inc(report.steps)
        self._step_rows.inc(report.rows)
        self._wasted_rows.inc(report.wasted_rows)
        self._tokens.inc(report.tokens)
        for waited in report.join_waits:
            self._join_seconds.observe(waited)
        for seconds in report.first_tokens:
            self._first_token_seconds.observe(seconds)
