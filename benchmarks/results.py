"""What a run of the benchmark found. Times are in seconds, memory in MiB."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.samples import Load, ratio
from benchmarks.servers import Memory


@dataclass(frozen=True, slots=True)
class Bare:
    """Items a second of a session with nothing around it, at one batch size."""

    batch: int
    alike: float
    """One thread a process, a process a core; rows of a batch are of similar length."""
    as_they_come: float
    """The same with rows in the order of the items."""
    wide: float
    """One process with all threads in one session; rows alike."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What went on in the service during a load: its own metrics, and its processor time."""

    mean_batch: float
    padding: float
    """Share of the padded cost of batches that was padding."""
    queue: float
    """Mean seconds that an item waited."""
    compute: float
    """Mean seconds of a batch."""
    running: float
    """Batches that ran at any time, on average."""
    cpu: float
    """Processor time of all threads as a share of one core."""
    loop_per_item: float
    """Processor time of the event loop's thread for each answer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One point, with the limit of the same minute."""

    concurrency: int
    limit_before: float
    limit_after: float
    quartet: Load
    naive: Load
    inside: Inside

    @property
    def ratio(self) -> float:
        """Return served items a second in units of the limit."""
        return ratio(self.quartet.rate, self.limit_before, self.limit_after)

    @property
    def naive_ratio(self) -> float:
        """Return the same for the naive server."""
        return ratio(self.naive.rate, self.limit_before, self.limit_after)


@dataclass(frozen=True, slots=True)
class IdleLatency:
    """A lone request's time over HTTP, and of the session alone on the same items (medians)."""

    http_p50: float
    wide_p50: float
    """A session with a thread a core, onnxruntime's other settings as they are."""
    narrow_p50: float
    """A session of one thread."""

    @property
    def over_wide(self) -> float:
        """Return what the service adds to a session with all threads."""
        return self.http_p50 - self.wide_p50

    @property
    def over_best(self) -> float:
        """Return what the service adds to the quicker of the two sessions."""
        return self.http_p50 - min(self.wide_p50, self.narrow_p50)


@dataclass(frozen=True, slots=True)
class SubjectResult:
    """Everything about one subject."""

    name: str
    bare: Sequence[Bare]
    readings: Sequence[Reading]
    idle: Sequence[IdleLatency]
    ready_memory: Memory
    loaded_memory: Memory
    """After all load."""
    naive_memory: Memory
    same_answers: float
    """Share of items that Quartet and the naive server answered alike."""

    @property
    def best_bare(self) -> float:
        """Return the bare session's rate at its best setting."""
        return max((max(b.alike, b.as_they_come, b.wide) for b in self.bare), default=0.0)

    def concurrencies(self) -> Sequence[int]:
        """Return at which concurrencies there are readings, ascending."""
        return sorted({reading.concurrency for reading in self.readings})

    def at(self, concurrency: int) -> Sequence[Reading]:
        """Return the readings of one concurrency, a round each."""
        return [reading for reading in self.readings if reading.concurrency == concurrency]

    def ratio_at(self, concurrency: int) -> float | None:
        """Return the median ratio to the limit; None where there is no reading."""
        ratios = [reading.ratio for reading in self.at(concurrency)]
        return median(ratios) if ratios else None

    def rate_at(self, concurrency: int) -> float | None:
        """Return the median items a second; None where there is no reading."""
        rates = [reading.quartet.rate for reading in self.at(concurrency)]
        return median(rates) if rates else None


@dataclass(frozen=True, slots=True)
class CacheResult:
    """Requests whose answers are in the cache."""

    load: Load
    hit_share: float
    """Share of the look-ups in memory that found an answer."""


@dataclass(frozen=True, slots=True)
class OverloadResult:
    """What becomes of requests when there are too many."""

    queue_limit: int
    within: Load
    """Closed loop with exactly as many requests as may wait."""
    offered: float
    """Requests a second of the open loop."""
    over: Load
    """Open loop at ten times what the service answers."""

    @property
    def slowest_refusal(self) -> float:
        """Return the longest that a refusal took."""
        return max((seen.most for seen in self.over.refused.values()), default=0.0)

    @property
    def refusal_p99(self) -> float:
        """Return the 99th percentile of what refusals took."""
        return max((seen.p99 for seen in self.over.refused.values()), default=0.0)

    @property
    def refused(self) -> int:
        """Return how many were refused."""
        return sum(seen.count for seen in self.over.refused.values())


@dataclass(frozen=True, slots=True)
class StartersResult:
    """The service with all starter models."""

    models: Sequence[str]
    ready_seconds: Sequence[float]
    """Of each start."""
    ready_memory: Memory
    used_memory: Memory
    """After every model has answered all of its golden items."""
    idle_cpu: float
    """Share of one core while nothing is asked."""


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run. What was not measured is None or empty."""

    machine: dict[str, Any]
    options: dict[str, Any]
    subjects: Sequence[SubjectResult] = field(default_factory=list)
    cache: CacheResult | None = None
    overload: OverloadResult | None = None
    starters: StartersResult | None = None

    def subject(self, name: str) -> SubjectResult | None:
        """Return one subject's results."""
        return next((found for found in self.subjects if found.name == name), None)
