"""What is counted of one version: its series of the metrics, bound once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter

from service.telemetry.metrics import (
    DEVICE_MEMORY_EXHAUSTED,
    INFERENCE_BATCH_SIZE,
    INFERENCE_COMPUTE_SECONDS,
    INFERENCE_ISOLATED_FAILURES,
    INFERENCE_OVERDUE_RUNS,
    INFERENCE_PADDING_RATIO,
    INFERENCE_PENDING_REQUESTS,
    INFERENCE_QUEUE_SECONDS,
    INFERENCE_REQUEST_SECONDS,
    INFERENCE_REQUESTS,
    INFERENCE_RUNNING_BATCHES,
    INFERENCE_STOPPED_RUNS,
    INFLIGHT_FIRST_TOKEN_SECONDS,
    INFLIGHT_JOIN_SECONDS,
    INFLIGHT_ROWS,
    INFLIGHT_STEP_ROWS,
    INFLIGHT_STEPS,
    INFLIGHT_TOKENS,
    INFLIGHT_WASTED_ROWS,
)

_log = logging.getLogger(__name__)

_EXPECTED_OUTCOMES = (
    "ok",
    "overloaded",
    "deadline_exceeded",
    "inference_failed",
    "device_memory",
    "internal_error",
)
"""Counted from zero: to Prometheus, a series that appears with its first count did not rise."""


@dataclass(slots=True)
class StepReport:
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


class NullMeter:
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

    def stopped(self) -> None:
        """Forget a run that was told to stop."""

    def overdue(self, change: int) -> None:
        """Forget a run that does not end."""

    def turn(self, report: StepReport) -> None:
        """Forget a turn."""

    def watch_rows(self, rows: Callable[[], int]) -> None:
        """Do not ask how many rows are in use."""


class ModelMeter(NullMeter):
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
        self._stopped = INFERENCE_STOPPED_RUNS.labels(*self._labels)
        self._overdue = INFERENCE_OVERDUE_RUNS.labels(*self._labels)
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

    def stopped(self) -> None:
        """Record a run that was told to stop."""
        self._stopped.inc()

    def overdue(self, change: int) -> None:
        """Record runs that go on after they were told to stop, or that have ended at last."""
        self._overdue.inc(change)
        said = "a run goes on after it was stopped" if change > 0 else "a stopped run has ended"
        _log.warning(said, extra={"model": self._labels[0], "version": self._labels[1]})

    def turn(self, report: StepReport) -> None:
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
        """Ask at every scrape how many rows are in use; count from zero what is done in them."""
        self._inflight = _InFlightSeries(self._labels)
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

    def count(self, report: StepReport) -> None:
        self._steps.inc(report.steps)
        self._step_rows.inc(report.rows)
        self._wasted_rows.inc(report.wasted_rows)
        self._tokens.inc(report.tokens)
        for waited in report.join_waits:
            self._join_seconds.observe(waited)
        for seconds in report.first_tokens:
            self._first_token_seconds.observe(seconds)
