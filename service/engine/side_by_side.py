"""Times the same batches on two sets of sessions, in turn."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from service.runtime.instances import Clock, Infer
from service.runtime.threads import ComputeClock
from service.types import Lane, Model, PreparedItem, Sessions

# Share of its time that another engine must save to replace the first choice.
MUST_SAVE: Final = 0.05

# Rounds of every batch on both sides: at least, those after which one may be hopeless, at most.
_LEAST_ROUNDS, _MOST_ROUNDS = 4, 24

# A comparison ends early where all rounds say that the other is this much slower.
_HOPELESS = 1.15

# After these rounds it also ends where every batch in both groups says the same: the other is this
# much faster, or not faster at all.
_SETTLING_ROUNDS, _CLEARLY_FASTER = 8, 0.8

# A batch that takes longer than this share of the budget is not timed, unless it is the first.
_LONGEST_SHARE = 0.1

# Time of day that more rounds than the settling ones may take where other programs use the
# processor, as a multiple of the budget: few runs would tell little.
_MOST_WAIT = 3.0

_ROWS = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """The best seconds of one batch on both sides, in two groups of rounds."""

    first: tuple[float, float]
    other: tuple[float, float]

    def ratio(self, group: int) -> float:
        """Return the other's time as a share of the first's."""
        return self.other[group] / self.first[group]


def ratio(pairs: Sequence[Pair]) -> float:
    """Return the other side's time as a share of the first's: the mean over all batches."""
    logs = [math.log(min(pair.other) / min(pair.first)) for pair in pairs]
    return math.exp(sum(logs) / len(logs))


def saves_enough(pairs: Sequence[Pair]) -> bool:
    """Tell whether the other side is clearly faster in both groups of rounds, and slower nowhere.

    Both groups have to say so: an engine whose gain is near the limit is then not chosen at some
    starts only. A single batch is judged by its best runs of both groups: one short run that the
    machine disturbs in one of them says nothing.
    """
    is_clear = all(
        math.prod(pair.ratio(group) for pair in pairs) ** (1 / len(pairs)) <= 1 - MUST_SAVE
        for group in (0, 1)
    )
    return is_clear and all(min(pair.other) <= min(pair.first) for pair in pairs)


def timed_batches(
    model: Model, lane: Lane, max_batch_size: int
) -> Sequence[Sequence[PreparedItem]]:
    """Return what to time of a lane: one short item, one of middle length, and several of these."""
    short, middle = lane.lengths[0], lane.lengths[len(lane.lengths) // 2]
    probes = [model.probe(lane.name, length) for length in dict.fromkeys((short, middle))]
    batches = [[probe] for probe in probes]
    if (rows := min(_ROWS, max_batch_size)) > 1:
        batches.append([probes[-1]] * rows)
    return batches


def compare_sessions(
    infer: Infer,
    sides: tuple[Sessions, Sessions],
    batches: Sequence[Sequence[PreparedItem]],
    seconds: float,
    clock: Clock | None = None,
) -> Sequence[Pair]:
    """Time batches on both sides in turn, for about `seconds`.

    The default clock is `ComputeClock`, which other programs change less than the time of day; the
    sides must then use one thread each. Blocking: call it on a device thread while nothing else
    computes.

    Raises:
        InferenceError: a graph failed.
    """
    began = time.perf_counter()
    _warm_up(infer, sides, batches)
    clock = clock or ComputeClock()  # by now every thread that computes has begun
    started, longest = clock(), seconds * _LONGEST_SHARE

    def is_over(rounds: int) -> bool:
        if rounds >= _SETTLING_ROUNDS and time.perf_counter() - began > _MOST_WAIT * seconds:
            return True
        return rounds >= _LEAST_ROUNDS and clock() - started > seconds

    chosen = [
        batch
        for index, batch in enumerate(batches)
        if _seconds(infer, sides[0], batch, clock) <= longest or index == 0
    ]
    best = [[[inf, inf], [inf, inf]] for _ in chosen]
    for round_ in range(_MOST_ROUNDS):
        if is_over(round_) or _is_settled(_pairs(best), round_):
            break
        for batch, minima in zip(chosen, best, strict=True):
            for side, sessions in enumerate(sides):
                taken = _seconds(infer, sessions, batch, clock)
                minima[side][round_ % 2] = min(minima[side][round_ % 2], taken)
    return _pairs(best)


def _pairs(best: Sequence[Sequence[Sequence[float]]]) -> Sequence[Pair]:
    return [Pair((one[0], one[1]), (two[0], two[1])) for one, two in best]


def _warm_up(
    infer: Infer, sides: tuple[Sessions, Sessions], batches: Sequence[Sequence[PreparedItem]]
) -> None:
    for batch in batches:
        for sessions in sides:
            infer(sessions, batch)


def _is_settled(pairs: Sequence[Pair], rounds: int) -> bool:
    """Return whether more rounds would hardly change the result."""
    if rounds < _LEAST_ROUNDS:
        return False
    if all(min(pair.other) > _HOPELESS * min(pair.first) for pair in pairs):
        return True
    ratios = [pair.ratio(group) for pair in pairs for group in (0, 1)]
    is_clear = max(ratios) < _CLEARLY_FASTER or min(ratios) > 1
    return rounds >= _SETTLING_ROUNDS and is_clear


def _seconds(
    infer: Infer, sessions: Sessions, batch: Sequence[PreparedItem], clock: Callable[[], float]
) -> float:
    started = clock()
    infer(sessions, batch)
    return max(clock() - started, 1e-9)
