"""What a run found. Rates are target tokens a second, times seconds, memory MiB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.samples import percentile

QUARTET, PLAIN, CTRANSLATE2 = "quartet", "plain", "ctranslate2"


@dataclass(frozen=True, slots=True)
class Speed:
    """One engine with some workers of some threads, on batches of one size."""

    engine: str
    workers: int
    threads: int
    batch: int
    beams: int
    rates: Sequence[float]
    """Of each round."""
    per_core: Sequence[float]
    """Tokens a second of processor time, of each round."""
    right: float
    """Share of the answers that were the only right one."""

    @property
    def rate(self) -> float:
        """Return the median."""
        return median(self.rates)


@dataclass(frozen=True, slots=True)
class Stream:
    """Sentences that came to a server, and how long each took from when it was due."""

    engine: str
    offered: float | None
    """Sentences a second at random times; None: so many connections at any time."""
    latencies: Sequence[float]
    tokens: int
    seconds: float
    wrong: int
    """Answers other than the only right one, and refusals."""

    @property
    def rate(self) -> float:
        """Return tokens a second."""
        return self.tokens / self.seconds

    @property
    def mean(self) -> float:
        """Return the mean latency."""
        return sum(self.latencies) / len(self.latencies)

    @property
    def p95(self) -> float:
        """Return what 95 % of the latencies are not above."""
        return percentile(self.latencies, 0.95)


@dataclass(frozen=True, slots=True)
class Findings:
    """A whole run."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    speeds: Sequence[Speed] = ()
    streams: Sequence[Stream] = ()
    resident: Mapping[str, float] = field(default_factory=dict)
    """Of each server after all load."""
    reference: Sequence[int] = ()
    """Workers, threads and largest batch of CTranslate2's server: the fastest of those tried."""

    def fastest(self, engine: str, batch: int, beams: int = 1) -> Speed | None:
        """Return the speed with the workers and threads that are fastest there."""
        found = [
            speed
            for speed in self.speeds
            if (speed.engine, speed.batch, speed.beams) == (engine, batch, beams)
        ]
        return max(found, key=lambda speed: speed.rate, default=None)

    def saturated(self, engine: str) -> float | None:
        """Return the median tokens a second of the rounds at saturation."""
        rates = [s.rate for s in self.streams if s.engine == engine and s.offered is None]
        return median(rates) if rates else None

    def latency(self, engine: str, of: str) -> float | None:
        """Return the median over the rounds of `mean` or `p95` of what came at random times."""
        found = [getattr(s, of) for s in self.streams if s.engine == engine and s.offered]
        return median(found) if found else None
