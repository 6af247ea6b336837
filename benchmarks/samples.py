"""Numbers out of many measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all are not above (nearest rank).

    Raises:
        ValueError: there are no values, or the share is not in 0..1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("a percentile needs values, and a share from 0 to 1")
    ordered = sorted(values)
    # Rounded, for 0.99 * 100 is a little over 99 in floating point.
    rank = -(-round(share * len(ordered), 6) // 1)
    return ordered[max(0, int(rank) - 1)]


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long requests took, in seconds."""

    count: int
    p50: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latencies":
        """Summarise samples; of none everything is 0."""
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        ordered = sorted(seconds)
        p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(len(ordered), p50, p90, p99, ordered[-1])


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw."""

    seconds: float
    answered: Latencies
    """Of requests answered 200."""
    refused: Mapping[int, Latencies]
    """Of the others, by status."""
    errors: int
    """Connections that broke, and requests without an answer."""
    generator_cpu: float
    """Processor time of the generator, as a share of one core."""

    @property
    def rate(self) -> float:
        """Return answered requests a second."""
        return self.answered.count / self.seconds


def ratio(measured: float, *references: float) -> float:
    """Return a number in units of the mean of others, taken before and after it."""
    return measured / (sum(references) / len(references))


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))


def counter_delta(before: str, after: str, name: str, labels: Mapping[str, str]) -> float:
    """Return by how much a Prometheus series grew between two readings of /metrics.

    Args:
        before: the text of the first reading.
        after: the text of the second.
        name: of the series, with its suffix such as `_sum`.
        labels: all series that have these are added up.
    """
    return _total(after, name, labels) - _total(before, name, labels)


def _total(text: str, name: str, labels: Mapping[str, str]) -> float:
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        found, _, rest = series.partition("{")
        if found == name and all(pair in rest for pair in wanted):
            total += float(value)
    return total
