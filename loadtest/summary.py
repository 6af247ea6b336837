"""Numbers out of a tally: by stage and kind, and over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.answers import Outcome
from loadtest.kinds import KINDS, Kind
from loadtest.scenario import Scenario, Stage
from loadtest.tally import Tally

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MOST_SPANS = 240


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Latency percentiles in milliseconds; NaN without samples."""

    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Floats) -> "Quantiles":
        """Return values that were really measured (nearest rank), none in between."""
        if not len(seconds):
            return cls(*[float("nan")] * 4)
        found = np.quantile(seconds, [0.5, 0.95, 0.99, 1.0], method="inverted_cdf")
        return cls(*(1000 * found).tolist())


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the requests of one kind that one stage judges."""

    stage: str
    kind: Kind
    sent: int
    answered: int
    refused: int
    failed: int
    reused: float
    """Share of the answers that came from the cache."""
    latency: Quantiles
    """Of answers."""


class Samples:
    """The columns of a tally as arrays, and which rows belong together."""

    def __init__(self, scenario: Scenario, tally: Tally) -> None:
        self.scenario = scenario
        self.kind = np.frombuffer(tally.kind, np.uint8)
        self.outcome = np.frombuffer(tally.outcome, np.uint8)
        self.reused = np.frombuffer(tally.reused, np.uint8)
        self.due = np.frombuffer(tally.due)
        self.latency = np.frombuffer(tally.latency)
        self.without_user = np.frombuffer(tally.without_user)

    def of(self, kind: Kind) -> Mask:
        """Return which are of a kind."""
        mask: Mask = self.kind == KINDS.index(kind)
        return mask

    def ended(self, outcome: Outcome) -> Mask:
        """Return which ended so."""
        mask: Mask = self.outcome == outcome
        return mask

    def judged(self, stage: Stage) -> Mask:
        """Return which were due in a stage after it had settled."""
        start = self.scenario.starts()[list(self.scenario.stages).index(stage)]
        mask: Mask = (self.due >= start + stage.settle_seconds) & (self.due < start + stage.seconds)
        return mask

    def row(self, stage: Stage, kind: Kind) -> Row:
        """Sum up one kind in one stage."""
        here = self.judged(stage) & self.of(kind)
        counts = {outcome: int((here & self.ended(outcome)).sum()) for outcome in Outcome}
        answered = here & self.ended(Outcome.ANSWERED)
        return Row(
            stage.name,
            kind,
            int(here.sum()),
            counts[Outcome.ANSWERED],
            counts[Outcome.REFUSED],
            counts[Outcome.FAILED],
            float(self.reused[answered].mean()) if answered.any() else 0.0,
            Quantiles.of(self.latency[answered]),
        )

    def rows(self) -> Sequence[Row]:
        """Sum up every kind in every stage."""
        return [self.row(stage, kind) for stage in self.scenario.stages for kind in self.kinds()]

    def kinds(self) -> Sequence[Kind]:
        """Return the kinds of the scenario, in their fixed order."""
        return [kind for kind in KINDS if kind in self.scenario.mix]

    def answered_rate(self, stage: Stage) -> float:
        """Return how many answers came a second, of requests that the stage judges."""
        answered = self.judged(stage) & self.ended(Outcome.ANSWERED)
        return float(answered.sum()) / (stage.seconds - stage.settle_seconds)

    def refusal_p99_ms(self, stage: Stage) -> float:
        """Return the time to a refusal; NaN if there was none."""
        return Quantiles.of(self.latency[self.judged(stage) & self.ended(Outcome.REFUSED)]).p99

    @property
    def edges(self) -> Floats:
        """Return the bounds of equal spans of the run: of a second, or longer in a long run."""
        spans = min(_MOST_SPANS, max(1, int(np.ceil(self.scenario.seconds))))
        return np.linspace(0.0, self.scenario.seconds, spans + 1)

    def rates(self, mask: Mask) -> Floats:
        """Return how many of these were due a second, by span."""
        counts = np.histogram(self.due[mask], self.edges)[0]
        rates: Floats = counts / np.diff(self.edges)
        return rates

    def latencies(self, mask: Mask, share: float) -> Floats:
        """Return a quantile of the latencies in milliseconds by span; NaN where none was due."""
        edges = self.edges
        values = np.full(len(edges) - 1, np.nan)
        spans = np.searchsorted(edges, self.due[mask], side="right") - 1
        found = self.latency[mask]
        for span in np.unique(spans):
            here = found[spans == span]
            values[span] = 1000 * np.quantile(here, share, method="inverted_cdf")
        return values
