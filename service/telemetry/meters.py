"""What one loaded version counts: its metric series, bound once."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from prometheus_client import Counter

from service.telemetry.metrics import (
    DEVICE_MEMORY_EXHAUSTED,
    INFERENCE_BACKLOG_SECONDS,
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
    INFLIGHT_ROWS,
)
from service.telemetry.record import Timings
from service.telemetry.step_series import StepSeries

_log = logging.getLogger(__name__)

# Counted from zero: Prometheus sees no rise in a series that appears with its first count.
_EXPECTED_OUTCOMES = (
    "ok",
    "overloaded",
    "deadline_exceeded",
    "inference_failed",
    "device_memory",
    "internal_error",
)


@dataclass(slots=True)
class StepReport:
    """What one step loop of an in-flight instance did; times in seconds."""

    steps: int = 0
    rows: int = 0
    """Rows computed, over all steps."""
    wasted_rows: int = 0
    """Rows of items whose caller had left when their step was done."""
    tokens: int = 0
    """Tokens computed, over all steps."""
    join_waits: list[float] = field(default_factory=list)
    """How long each new item had waited."""
    first_tokens: list[float] = field(default_factory=list)
    """From an item's arrival to its first token."""
    computed: list[float] = field(default_factory=list)
    """From joining to the result, for each finished item."""
    lengths: list[int] = field(default_factory=list)
    """Of each finished item."""
    isolated: int = 0
    """Items that failed while they ran without others."""
    memory_exhausted: int = 0
    """Steps for which the device had no memory."""


@dataclass(slots=True)
class Spent:
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Tally:
    """What a version has done since it was loaded, for clients that ask for statistics."""

    last_request: float = 0.0
    """Time of the last answer, in seconds since 1970; 0 if there is none."""
    succeeded: Spent = field(default_factory=Spent)
    failed: Spent = field(default_factory=Spent)
    """Also refused and cancelled."""
    hits: Spent = field(default_factory=Spent)
    """Answers from the cache or from the computation for an identical item: all of their time."""
    misses: Spent = field(default_factory=Spent)
    """Answers computed although the cache was asked: the time that it took."""
    preprocess: Spent = field(default_factory=Spent)
    queue: Spent = field(default_factory=Spent)
    compute: Spent = field(default_factory=Spent)
    postprocess: Spent = field(default_factory=Spent)
    """Of the items that were computed, as the previous three."""
    batches: dict[int, Spent] = field(default_factory=dict)
    """Runs by number of rows; empty for a version with in-flight batching."""

    def answered(self, how: str, spent: Timings, seconds: float) -> float:
        """Count an answer, and return the time that no stage but the cache took.

        Args:
            how: a `CacheOutcome`.
            spent: the time of each stage but the cache.
            seconds: the whole time.
        """
        stages = spent.preprocess + spent.queue + spent.compute + spent.postprocess
        rest = max(0.0, seconds - stages)
        self.last_request = time.time()
        self.succeeded.add(seconds)
        if how in ("hit", "shared"):
            self.hits.add(seconds)
            return rest
        for stage in (self.preprocess, self.queue, self.compute, self.postprocess):
            stage.count += 1
        self.preprocess.seconds += spent.preprocess
        self.queue.seconds += spent.queue
        self.compute.seconds += spent.compute
        self.postprocess.seconds += spent.postprocess
        if how == "miss":
            self.misses.add(rest)
        return rest


class Load(NamedTuple):
    """What a version has to do now."""

    pending: int = 0
    """Items that wait."""
    running: int = 0
    """Batches that run."""
    seconds: float = 0.0
    """Expected time until the waiting items have been computed."""


class Meter(Protocol):
    """Counts what a version's pipeline and engines do."""

    tally: Tally

    def request(self, outcome: str, seconds: float) -> None:
        """Count one item by its outcome: "ok" or an error's code."""
        ...

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        """Count a batch; `queued` holds the seconds that each row waited."""
        ...

    def isolated(self) -> None:
        """Count an item that failed while it ran without others."""
        ...

    def memory_exhausted(self) -> None:
        """Count a batch for which the device had no memory."""
        ...

    def stopped(self) -> None:
        """Count a run that was stopped."""
        ...

    def overdue(self, change: int) -> None:
        """Add to the number of stopped runs that have not ended."""
        ...

    def steps(self, report: StepReport) -> None:
        """Count what a step loop did."""
        ...


class NullMeter(Meter):
    """Counts nothing."""

    def __init__(self) -> None:
        self.tally = Tally()

    def request(self, outcome: str, seconds: float) -> None:
        pass

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        pass

    def isolated(self) -> None:
        pass

    def memory_exhausted(self) -> None:
        pass

    def stopped(self) -> None:
        pass

    def overdue(self, change: int) -> None:
        pass

    def steps(self, report: StepReport) -> None:
        pass


class ModelMeter(Meter):
    """Counts in the metric series of one version, from `start` on.

    Before `start` only the version's own goldens are answered, which are not counted, and a
    version that fails its checks leaves no series behind.
    """

    def __init__(self, model: str, version: int) -> None:
        self._labels = (model, str(version))
        self.tally = Tally()
        self._series: _Series | None = None
        self._steps: StepSeries | None = None

    def start(self, load: Callable[[], Load], rows: Callable[[], int] | None = None) -> None:
        """Begin to count.

        Args:
            load: returns what waits and runs; called at every scrape.
            rows: returns how many rows are in use; None for a version without in-flight batching.
        """
        self._series = _Series(self._labels)
        self.tally = Tally()
        INFERENCE_PENDING_REQUESTS.labels(*self._labels).set_function(lambda: load().pending)
        INFERENCE_RUNNING_BATCHES.labels(*self._labels).set_function(lambda: load().running)
        INFERENCE_BACKLOG_SECONDS.labels(*self._labels).set_function(lambda: load().seconds)
        if rows is not None:
            self._steps = StepSeries(self._labels)
            INFLIGHT_ROWS.labels(*self._labels).set_function(rows)

    def request(self, outcome: str, seconds: float) -> None:
        if (series := self._series) is not None:
            series.count_request(outcome, seconds)
            if outcome != "ok":
                self.tally.last_request = time.time()
                self.tally.failed.add(seconds)

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        if (series := self._series) is not None:
            series.batch_size.observe(len(lengths))
            series.compute_seconds.observe(seconds)
            self.tally.batches.setdefault(len(lengths), Spent()).add(seconds)
            series.padding_ratio.observe(1.0 - sum(lengths) / (len(lengths) * max(lengths)))
            for waited in queued:
                series.queue_seconds.observe(waited)

    def isolated(self) -> None:
        if self._series is not None:
            self._series.isolated.inc()

    def memory_exhausted(self) -> None:
        if self._series is not None:
            self._series.exhausted.inc()

    def stopped(self) -> None:
        if self._series is not None:
            self._series.stopped.inc()

    def overdue(self, change: int) -> None:
        if self._series is not None:
            self._series.overdue.inc(change)
        event = "stopped run has not ended" if change > 0 else "stopped run has ended"
        _log.warning(event, extra={"model": self._labels[0], "version": self._labels[1]})

    def steps(self, report: StepReport) -> None:
        if (series := self._series) is None or self._steps is None:
            return
        self._steps.count(report)
        for waited in report.join_waits:
            series.queue_seconds.observe(waited)
        for seconds in report.computed:
            series.compute_seconds.observe(seconds)
        series.isolated.inc(report.isolated)
        series.exhausted.inc(report.memory_exhausted)


class _Series:
    """The series of a version, bound once so that counting needs no lookup."""

    def __init__(self, labels: tuple[str, str]) -> None:
        self._labels = labels
        self._requests: dict[str, Counter] = {
            outcome: INFERENCE_REQUESTS.labels(*labels, outcome) for outcome in _EXPECTED_OUTCOMES
        }
        self._request_seconds = INFERENCE_REQUEST_SECONDS.labels(*labels)
        self.queue_seconds = INFERENCE_QUEUE_SECONDS.labels(*labels)
        self.compute_seconds = INFERENCE_COMPUTE_SECONDS.labels(*labels)
        self.batch_size = INFERENCE_BATCH_SIZE.labels(*labels)
        self.padding_ratio = INFERENCE_PADDING_RATIO.labels(*labels)
        self.isolated = INFERENCE_ISOLATED_FAILURES.labels(*labels)
        self.exhausted = DEVICE_MEMORY_EXHAUSTED.labels(*labels)
        self.stopped = INFERENCE_STOPPED_RUNS.labels(*labels)
        self.overdue = INFERENCE_OVERDUE_RUNS.labels(*labels)

    def count_request(self, outcome: str, seconds: float) -> None:
        if outcome not in self._requests:
            self._requests[outcome] = INFERENCE_REQUESTS.labels(*self._labels, outcome)
        self._requests[outcome].inc()
        self._request_seconds.observe(seconds)
