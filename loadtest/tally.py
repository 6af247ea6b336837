"""What one process or all of them have seen: plain columns that can be sent and added up."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from loadtest.answers import Outcome, Verdict
from loadtest.kinds import KINDS, Kind

_MOST_REASONS = 100
_OTHER = "other reasons"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that has ended. Times are in seconds."""

    kind: Kind
    due: float
    """From the start of the run."""
    latency: float
    """From when it was due until it was answered."""
    without_user: float
    """How long it was due before a user of its task was free."""
    verdict: Verdict


def _octets() -> "array[int]":
    return array("B")


def _doubles() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class Tally:
    """Samples by column, why requests failed, and how the generator fared."""

    kind: "array[int]" = field(default_factory=_octets)
    outcome: "array[int]" = field(default_factory=_octets)
    reused: "array[int]" = field(default_factory=_octets)
    due: "array[float]" = field(default_factory=_doubles)
    latency: "array[float]" = field(default_factory=_doubles)
    without_user: "array[float]" = field(default_factory=_doubles)
    lag: "array[float]" = field(default_factory=_doubles)
    """How late the generator's own timers went off; not by request."""
    cpu_peak: float = 0.0
    """Largest share of one core that a generator process used over five seconds."""
    reasons: "Counter[str]" = field(default_factory=Counter)
    """By kind and reason: failures and refusals."""

    def __len__(self) -> int:
        return len(self.kind)

    def add(self, sample: Sample) -> None:
        """Record one request."""
        verdict = sample.verdict
        self.kind.append(KINDS.index(sample.kind))
        self.outcome.append(verdict.outcome)
        self.reused.append(verdict.reused)
        self.due.append(sample.due)
        self.latency.append(sample.latency)
        self.without_user.append(sample.without_user)
        if verdict.outcome is not Outcome.ANSWERED:
            self._count({f"{sample.kind}: {verdict.reason}": 1})

    def merge(self, other: Self) -> None:
        """Add what another has seen."""
        for name in _COLUMNS:
            getattr(self, name).extend(getattr(other, name))
        self.cpu_peak = max(self.cpu_peak, other.cpu_peak)
        self._count(other.reasons)

    def _count(self, reasons: Mapping[str, int]) -> None:
        for reason, count in reasons.items():
            known = reason in self.reasons or len(self.reasons) < _MOST_REASONS
            self.reasons[reason if known else _OTHER] += count

    def dump(self) -> Mapping[str, Any]:
        """Return it as a message between processes of the same machine type."""
        columns = {name: getattr(self, name).tobytes() for name in _COLUMNS}
        return {**columns, "cpu_peak": self.cpu_peak, "reasons": dict(self.reasons)}

    @classmethod
    def load(cls, message: Mapping[str, Any]) -> Self:
        """Read what `dump` made."""
        tally = cls(cpu_peak=message["cpu_peak"], reasons=Counter(message["reasons"]))
        for name in _COLUMNS:
            getattr(tally, name).frombytes(message[name])
        return tally


_COLUMNS = ("kind", "outcome", "reused", "due", "latency", "without_user", "lag")
