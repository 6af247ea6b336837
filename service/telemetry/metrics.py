"""All metrics of the service. Units are base units (seconds, bytes); label values are bounded.

Label values never come from user input: an unknown model counts as `UNKNOWN_MODEL`.
"""

from prometheus_client import Counter, Gauge, Histogram

from service.telemetry.live_gauge import LiveCounter, LiveGauge

UNKNOWN_MODEL = "_unknown_"

STEP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)

_VERSION = ("model", "version")

INFERENCE_REQUESTS = Counter(
    "inference_requests",
    "Items requested, by outcome: ok or the error code.",
    (*_VERSION, "outcome"),
)
INFERENCE_REQUEST_SECONDS = Histogram(
    "inference_request_seconds",
    "Time of an item in the service, including cache hits.",
    _VERSION,
    buckets=REQUEST_SECONDS,
)
INFERENCE_QUEUE_SECONDS = Histogram(
    "inference_queue_seconds",
    "Time an item waited until its batch started.",
    _VERSION,
    buckets=STEP_SECONDS,
)
INFERENCE_COMPUTE_SECONDS = Histogram(
    "inference_compute_seconds",
    "Time of one batch on its thread; in-flight models: from joining the batch to the result.",
    _VERSION,
    buckets=STEP_SECONDS,
)
INFERENCE_BATCH_SIZE = Histogram(
    "inference_batch_size",
    "Items in a batch; sum divided by count is the mean batch size.",
    _VERSION,
    buckets=_BATCH_SIZES,
)
INFERENCE_PADDING_RATIO = Histogram(
    "inference_padding_ratio",
    "Share of a batch's tokens or pixels that is padding.",
    _VERSION,
    buckets=_RATIOS,
)
INFERENCE_PENDING_REQUESTS = LiveGauge(
    "inference_pending_requests",
    "Items accepted whose computation has not started.",
    _VERSION,
    multiprocess_mode="sum",
)
INFERENCE_BACKLOG_SECONDS = LiveGauge(
    "inference_backlog_seconds",
    "Expected time until the items that wait now have been computed; scale replicas by it.",
    _VERSION,
    multiprocess_mode="max",
)
INFERENCE_RUNNING_BATCHES = LiveGauge(
    "inference_running_batches",
    "Batches that run or wait for a thread; in-flight models: instances with work.",
    _VERSION,
    multiprocess_mode="sum",
)
INFLIGHT_ROWS = LiveGauge(
    "inflight_rows",
    "Rows (hypotheses) reserved for the running translations.",
    _VERSION,
    multiprocess_mode="sum",
)
INFLIGHT_STEPS = Counter(
    "inflight_steps", "Decoder steps, each for all running translations of an instance.", _VERSION
)
INFLIGHT_STEP_ROWS = Counter(
    "inflight_step_rows",
    "Rows computed by steps; divided by inflight_steps_total, the mean batch size.",
    _VERSION,
)
INFLIGHT_WASTED_ROWS = Counter(
    "inflight_wasted_rows",
    "Rows computed for clients that had disconnected by the end of the step.",
    _VERSION,
)
INFLIGHT_TOKENS = Counter(
    "inflight_tokens",
    "Tokens generated: one per step and running translation, independent of the beam size.",
    _VERSION,
)
INFLIGHT_JOIN_SECONDS = Histogram(
    "inflight_join_seconds",
    "Time a translation waited until it joined the running batch.",
    _VERSION,
    buckets=STEP_SECONDS,
)
INFLIGHT_FIRST_TOKEN_SECONDS = Histogram(
    "inflight_first_token_seconds",
    "Time from the arrival of a translation to its first token.",
    _VERSION,
    buckets=REQUEST_SECONDS,
)
INFERENCE_ISOLATED_FAILURES = Counter(
    "inference_isolated_failures",
    "Items that failed on their own after their batch was split and retried.",
    _VERSION,
)
INFERENCE_STOPPED_RUNS = Counter(
    "inference_stopped_runs",
    "Runs stopped because all their clients had disconnected or passed their deadlines, or because "
    "the model was unloaded.",
    _VERSION,
)
INFERENCE_OVERDUE_RUNS = Gauge(
    "inference_overdue_runs",
    "Runs still running half a second after they were stopped; each occupies a compute thread.",
    _VERSION,
    multiprocess_mode="sum",
)
INFERENCE_INLINE_OVERRUNS = Counter(
    "inference_inline_overruns",
    "Runs that blocked the event loop for longer than measured at warm-up; later runs of the "
    "version use the compute threads.",
    _VERSION,
)
DEVICE_MEMORY_EXHAUSTED = Counter(
    "device_memory_exhausted",
    "Batches that ran out of device memory; each lowers the model's largest batch size.",
    _VERSION,
)
MODEL_STATE = Gauge(
    "model_state",
    "1 for the current state of a version, 0 for its other states.",
    (*_VERSION, "state"),
    multiprocess_mode="max",
)
MODEL_READY = Gauge(
    "model_ready",
    "1 if a wanted model is ready, 0 if not; absent after it was unloaded.",
    ("model",),
    multiprocess_mode="min",
)
MODEL_INFO = Gauge(
    "model_info",
    "Always 1; labels describe a loaded version, its precision, device and content digest.",
    (*_VERSION, "task", "family", "precision", "device", "digest"),
    multiprocess_mode="max",
)
MODEL_LOAD_SECONDS = Gauge(
    "model_load_seconds",
    "Duration of the last load of a version, including warm-up and golden check.",
    _VERSION,
    multiprocess_mode="max",
)
MODEL_GOLDEN_DEVIATION = Gauge(
    "model_golden_deviation",
    "Largest difference from the recorded reference answers, measured at load.",
    _VERSION,
    multiprocess_mode="max",
)
MODEL_GOLDEN_FLIPS = Gauge(
    "model_golden_flips",
    "Goldens with another best label than the recorded answer, measured at load.",
    _VERSION,
    multiprocess_mode="max",
)
MODEL_BATCH_DEVIATION = Gauge(
    "model_batch_deviation",
    "Largest difference between a golden answered in a batch and answered alone, measured at load.",
    _VERSION,
    multiprocess_mode="max",
)
MODEL_GOLDEN_TOLERANCE = Gauge(
    "model_golden_tolerance",
    "Largest difference from the goldens that the version's precision allows.",
    _VERSION,
    multiprocess_mode="max",
)
MODEL_CANDIDATE_TIME = Gauge(
    "model_candidate_time_ratio",
    "Time of a candidate provider as a share of the first choice's, measured at load.",
    (*_VERSION, "provider", "precision", "inference_precision", "sessions", "verdict"),
    multiprocess_mode="max",
)
MODEL_QUEUE_LIMIT = Gauge(
    "model_queue_limit",
    "Largest number of items in each queue of a version; further items are refused.",
    _VERSION,
    multiprocess_mode="sum",
)
MODEL_BATCH_LIMIT = Gauge(
    "model_batch_limit",
    "Batch size with the best measured throughput, by lane.",
    (*_VERSION, "lane"),
    multiprocess_mode="max",
)
MODEL_LOADING_SECONDS = LiveGauge(
    "model_loading_seconds",
    "Duration so far of a running load, by phase; absent when no load is running.",
    ["model", "version", "phase"],
    multiprocess_mode="max",
)
MODEL_FALLBACK = Gauge(
    "model_fallback",
    "1 for a version that serves because every newer version failed to load.",
    ["model", "version"],
    multiprocess_mode="max",
)
MODEL_ALIAS_SHARE = Gauge(
    "model_alias_share",
    "Share of the requests for an alias that a version gets.",
    (*_VERSION, "alias"),
    multiprocess_mode="max",
)
MODEL_MEMORY_BYTES = Gauge(
    "model_memory_bytes",
    "Memory of a version that is loaded or drains, as measured when it was loaded; the size of its "
    "files if other loads ran then.",
    _VERSION,
    multiprocess_mode="sum",
)
MODEL_MEMORY_BUDGET_BYTES = Gauge(
    "model_memory_budget_bytes",
    "Memory that all loaded versions may take; 0 is no limit.",
    multiprocess_mode="sum",
)
MODEL_DEMAND_LOADS = Counter(
    "model_demand_loads", "Loads of a model for a request that waited.", ("model",)
)
MODEL_EVICTIONS = Counter(
    "model_evictions", "Times that a model left memory for another one.", ("model",)
)
MODEL_LOADS_WAITING = Gauge(
    "model_loads_waiting", "Loads that wait for memory.", multiprocess_mode="sum"
)
MODEL_REQUESTS_WAITING = Gauge(
    "model_requests_waiting",
    "Requests that wait for a model to be loaded.",
    multiprocess_mode="sum",
)
MODEL_LOADS = Counter(
    "model_loads", "Loads of a model, by result: ok or failed.", ("model", "result")
)
RESPONSE_CACHE_LOOKUPS = Counter(
    "response_cache_lookups",
    "Cache look-ups by level (memory, redis, codec) and result (hit, miss, error, rejected).",
    ("level", "result"),
)
RESPONSE_CACHE_REDIS_SECONDS = Histogram(
    "response_cache_redis_seconds",
    "Time an item waited for its look-up in Redis.",
    buckets=STEP_SECONDS,
)
RESPONSE_CACHE_ENTRIES = Gauge(
    "response_cache_entries", "Answers in the memory cache.", multiprocess_mode="sum"
)
RESPONSE_CACHE_BYTES = Gauge(
    "response_cache_bytes", "Size of the memory cache.", multiprocess_mode="sum"
)
RESPONSE_CACHE_WRITES_DROPPED = Counter(
    "response_cache_writes_dropped",
    "Answers not written to Redis because the write queue was full or Redis was unreachable.",
)
RESPONSE_CACHE_BREAKER_OPEN = Gauge(
    "response_cache_breaker_open",
    "1 while the circuit breaker keeps requests from Redis after repeated errors.",
    multiprocess_mode="max",
)
SINGLE_FLIGHT_SHARED = Counter(
    "single_flight_shared",
    "Items answered by the computation of an identical item that was already running.",
)
DEVICE_INFO = Gauge(
    "device_info",
    "Always 1; labels are the device, its execution provider and the number of CPU threads.",
    ("device", "provider", "threads"),
    multiprocess_mode="max",
)
DEVICE_RUNNING_BATCHES = LiveGauge(
    "device_running_batches",
    "Batches that compute on the device now, of all models.",
    ("device",),
    multiprocess_mode="sum",
)
DEVICE_SLOTS = Gauge(
    "device_slots",
    "Batches that can compute on the device at the same time; at this number it is full.",
    ("device",),
    multiprocess_mode="sum",
)
DEVICE_BUSY_SECONDS = LiveCounter(
    "device_busy_seconds",
    "Time that batches computed, over all threads; its rate divided by device_slots is the share "
    "of the device that was busy.",
    ("device",),
)
DEVICE_MEMORY_BYTES = Gauge(
    "device_memory_bytes",
    "GPU memory by kind (used, total); absent on CPU.",
    ("device", "kind"),
    multiprocess_mode="max",
)
DEVICE_UTILISATION_RATIO = Gauge(
    "device_utilisation_ratio",
    "Share of time in which the GPU was busy; absent on CPU.",
    ("device",),
    multiprocess_mode="max",
)
