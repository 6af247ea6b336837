"""How long a batch takes, as measured during warm-up. Pure data, independent of the device."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, inf
from typing import TypeAlias

Measurements: TypeAlias = Mapping[tuple[int, int], float]
"""(rows, length) -> seconds of one batch with this many rows, all of that length."""

# Longest run on the event loop's thread: all other requests wait for it.
SHORT_SECONDS = 2e-3

# A batch size within 3 % of the best rate is as good as the best.
_NEARLY_BEST = 0.97

# Seconds of computation after which an earlier run counts a third. Translations in flight end in
# waves: over a tenth of this they seem to take twice as long, or half.
_MEMORY_SECONDS = 5.0

_REMEMBERED_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class BatchCurve:
    """Seconds of a batch by its rows and its longest row, linear between measured points.

    Beyond the measured points the cost per row, and per unit of length, stays what it was at the
    last point.
    """

    lengths: Sequence[int]
    table: Sequence[Sequence[float]]
    """table[l][r - 1]: seconds at lengths[l] and r rows, for every r up to the largest measured."""
    best_cost_per_row: Sequence[float]
    """best_cost_per_row[l]: seconds per row of the best batch at lengths[l]."""
    dispatch: float = 0.0
    """Seconds in every entry of the table for getting a batch to a thread and back."""
    # Results computed before; the lane's limits bound the number of keys.
    _seconds: dict[tuple[int, int], float] = field(default_factory=dict, init=False, repr=False)
    _best_cost: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, measured: Measurements, dispatch: float = 0.0) -> "BatchCurve":
        """Tabulate measurements; each length needs at least one point.

        Args:
            measured: seconds of computation.
            dispatch: seconds that every batch costs besides its computation.

        Raises:
            ValueError: nothing was measured, or a time is not positive.
        """
        if not measured or min(measured.values()) <= 0:
            raise ValueError("a batch curve needs at least one positive measurement")
        lengths = sorted({length for _, length in measured})
        most = max(rows for rows, _ in measured)
        table = [
            _every_row({r: s + dispatch for (r, at), s in measured.items() if at == length}, most)
            for length in lengths
        ]
        best = [min(s / (r + 1) for r, s in enumerate(row)) for row in table]
        return cls(lengths, table, best, dispatch)

    @classmethod
    def proportional(cls) -> "BatchCurve":
        """Return a curve on which batching neither costs nor saves anything."""
        return cls.of({(1, 1): 1e-3})

    def longest_short(self) -> int:
        """Return up to which length a single row is short enough for the event loop's thread.

        Nothing longer than what was measured is; 0 if no length is. Only the computation counts:
        on the event loop there is nothing to dispatch.
        """
        before = 0
        for length in self.lengths:
            if not self._is_short(length):
                between = range(before + 1, length)
                return before + bisect_left(between, True, key=lambda at: not self._is_short(at))
            before = length
        return before

    def _is_short(self, length: int) -> bool:
        return self.computation(1, length) <= SHORT_SECONDS

    def seconds(self, rows: int, length: int) -> float:
        """Return the expected seconds of `rows` rows padded to `length`."""
        known = self._seconds.get((rows, length))
        if known is None:
            low, high, share = self._between(length)
            first = self._at(low, rows)
            known = first + share * (self._at(high, rows) - first)
            self._seconds[rows, length] = known
        return known

    def computation(self, rows: int, length: int) -> float:
        """Return `seconds` without what it takes to get a batch to a thread and back."""
        return self.seconds(rows, length) - self.dispatch

    def best_cost(self, length: int) -> float:
        """Return the seconds that one row costs in the best batch of rows of this length."""
        known = self._best_cost.get(length)
        if known is None:
            low, high, share = self._between(length)
            costs = self.best_cost_per_row
            known = costs[low] + share * (costs[high] - costs[low])
            self._best_cost[length] = known
        return known

    def best_costs(self, lengths: Sequence[int]) -> Sequence[float]:
        """Return `best_cost` of each length."""
        try:
            return [self._best_cost[length] for length in lengths]
        except KeyError:
            return [self.best_cost(length) for length in lengths]

    def best_batch_size(self, length: int) -> int:
        """Return the smallest number of rows within 3 % of the best rate at this length."""
        rows = range(1, len(self.table[0]) + 1)
        rates = [r / self.seconds(r, length) for r in rows]
        enough = _NEARLY_BEST * max(rates)
        return next(r for r, rate in zip(rows, rates, strict=True) if rate >= enough)

    def rows_within(self, seconds: float, length: int) -> int:
        """Return how many rows of a length take at most this long; at least 1."""
        for rows in range(2, len(self.table[0]) + 1):
            if self.seconds(rows, length) > seconds:
                return rows - 1
        return len(self.table[0])

    def _at(self, index: int, rows: int) -> float:
        row = self.table[index]
        most = len(row)
        return row[rows - 1] if rows <= most else row[-1] * rows / most

    def _between(self, length: int) -> tuple[int, int, float]:
        """Return the two measured lengths around this one and its share of the way."""
        lengths = self.lengths
        if len(lengths) == 1 or length <= lengths[0]:
            return 0, 0, 0.0
        high = min(bisect_left(lengths, length), len(lengths) - 1)
        low = high - 1
        return low, high, (length - lengths[low]) / (lengths[high] - lengths[low])


class Pace:
    """How long runs take now, compared with the curve."""

    def __init__(self, curve: BatchCurve) -> None:
        self._curve = curve
        # Sums over the last runs: seconds, seconds by the curve, and items.
        self._seconds = self._expected = self._items = 0.0

    def note(self, seconds: float, expected: float, items: int) -> None:
        """Record how long a run took, how long the curve says, and how many items it answered."""
        old = exp(-seconds / _MEMORY_SECONDS)
        self._seconds = old * self._seconds + seconds
        self._expected = old * self._expected + expected
        self._items = old * self._items + items

    @property
    def seconds_per_item(self) -> float:
        """Return the seconds of one thread for each item of the last runs."""
        return self._seconds / self._items if self._items else self._curve.best_cost(1)

    def seconds(self, lengths: Sequence[int], threads: int) -> float:
        """Return the expected seconds for items of these lengths, in good batches on all threads.

        Items of a long queue share batches, even if the last runs had few items.
        """
        if not lengths:
            return 0.0
        curve = self._curve
        seconds = max(sum(curve.best_costs(lengths)) / threads, curve.seconds(1, max(lengths)))
        return seconds * self._seconds / self._expected if self._expected else seconds


class Remembered:
    """A value that is computed again only after some time, however often it is asked for."""

    def __init__(self) -> None:
        self._value, self._until = 0.0, -inf

    def at(self, now: float, compute: Callable[[], float]) -> float:
        """Return the value at a time in seconds; computed a twentieth of a second ago at most."""
        if now >= self._until:
            self._value, self._until = compute(), now + _REMEMBERED_SECONDS
        return self._value


def _every_row(points: Mapping[int, float], most: int) -> list[float]:
    """Interpolate seconds for 1..most rows; never less than for fewer rows."""
    known = sorted(points.items())
    first_rows, first = known[0]
    seconds = [first * r / first_rows for r in range(1, first_rows)] + [first]
    for (rows, at), (next_rows, then) in pairwise(known):
        step = (then - at) / (next_rows - rows)
        seconds += [at + step * r for r in range(1, next_rows - rows + 1)]
    last_rows, last = known[-1]
    seconds += [last * r / last_rows for r in range(last_rows + 1, most + 1)]
    for index in range(1, len(seconds)):
        seconds[index] = max(seconds[index], seconds[index - 1])
    return seconds
