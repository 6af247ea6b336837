"""What a run found. Rates are target tokens a second, times seconds, memory MiB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.samples import percentile

QUARTET, PLAIN, CTRANSLATE2 = "quartet", "plain", "ctranslate2"
QUARTET_INT8 = "quartet int8"
"""Where the service's default is another."""


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
    """Share of the answers that were the one which is compared with."""

    @property
    def rate(self) -> float:
        """Return the median."""
        return median(self.rates)


@dataclass(frozen=True, slots=True)
class Stream:
    """Sentences that came to a server, and how long each took from when it was due."""

    engine: str
    offered: float | None
    """Sentences per second at random times; None: a closed loop of connections."""
    latencies: Sequence[float]
    """Of what was answered."""
    tokens: int
    seconds: float
    wrong: int
    """Answers other than the one which is compared with."""
    refused: int = 0
    beams: int = 1

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
    subject: str = ""
    note: str = ""
    """Which engine computes in what."""
    exact: Sequence[str] = (QUARTET, PLAIN, CTRANSLATE2)
    """Engines whose every answer must be the one that it is compared with."""
    speeds: Sequence[Speed] = ()
    streams: Sequence[Stream] = ()
    resident: Mapping[str, float] = field(default_factory=dict)
    """Of each server after all load with the most beams."""
    reference: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """By number of beams: workers, threads and largest batch of CTranslate2's server, the fastest
    of those tried."""

    def alone(self, engine: str, batch: int, beams: int = 1) -> Speed | None:
        """Return the speed of one worker, with as many threads as are fastest there."""
        found = [speed for speed in self._speeds(engine, batch, beams) if speed.workers == 1]
        return max(found, key=lambda speed: speed.rate, default=None)

    def fastest(self, engine: str, batch: int, beams: int = 1) -> Speed | None:
        """Return the speed with the workers and threads that are fastest there."""
        found = self._speeds(engine, batch, beams)
        return max(found, key=lambda speed: speed.rate, default=None)

    def _speeds(self, engine: str, batch: int, beams: int) -> Sequence[Speed]:
        wanted = (engine, batch, beams)
        return [s for s in self.speeds if (s.engine, s.batch, s.beams) == wanted]

    def saturated(self, engine: str, beams: int = 1) -> float | None:
        """Return the median tokens a second of the rounds at saturation."""
        rates = [s.rate for s in self._streams(engine, beams) if s.offered is None]
        return median(rates) if rates else None

    def latency(self, engine: str, of: str, beams: int = 1) -> float | None:
        """Return the median over the rounds of `mean` or `p95` of what came at random times."""
        found = [getattr(s, of) for s in self._streams(engine, beams) if s.offered]
        return median(found) if found else None

    def right(self, engine: str, beams: int = 1) -> float:
        """Return the share of the answers over HTTP that were the one which is compared with."""
        streams = self._streams(engine, beams)
        answers = sum(len(s.latencies) for s in streams)
        return 1 - sum(s.wrong for s in streams) / answers if answers else 0.0

    def refused(self, engine: str, beams: int = 1) -> int:
        """Return how many sentences were refused."""
        return sum(s.refused for s in self._streams(engine, beams))

    def _streams(self, engine: str, beams: int) -> Sequence[Stream]:
        return [s for s in self.streams if (s.engine, s.beams) == (engine, beams)]
