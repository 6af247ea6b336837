"""Runs a lane before it is ready: every batch bucket once, and its time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.runtime.instances import Infer
from service.types import Sessions, Work

_WIDE_MUST_SAVE = 0.1
"""Share of a lone request's time that a second set of sessions must save to be worth it."""

_FURTHER_PASSES = 4

_NO_GAIN = 0.99
"""A batch that took this share of twice the time of its half is not doubled again."""


@dataclass(frozen=True, slots=True)
class WarmUpPlan:
    """What to time. Lengths ascend; `budget_seconds` bounds the whole of it, softly."""

    lengths: Sequence[int]
    max_batch_size: int
    max_batch_cost: int | None
    budget_seconds: float


def measure(
    infer: Infer, sessions: Sessions, probe: Callable[[int], Work], plan: WarmUpPlan
) -> dict[tuple[int, int], float]:
    """Return seconds by (rows, length): the best of several passes, after a run that warms up.

    Every length is timed at one row whatever it costs; larger batches as far as the budget
    goes and as long as they still gain, the small ones of all lengths first. The passes go over
    all points in turn, so that a moment in which something else takes the processor does not
    spoil a point for good.
    Blocking: call it on a device thread.
    """
    started = time.perf_counter()
    measured: dict[tuple[int, int], float] = {}

    def can_afford(seconds: float) -> bool:
        return time.perf_counter() - started + seconds <= plan.budget_seconds

    for rows, length in _points(plan):
        half = measured.get((rows // 2, length), 0.0)
        quarter = measured.get((rows // 4, length), half)
        still_gains = half < _NO_GAIN * 2 * quarter
        if rows > 1 and not (half and still_gains and can_afford(2 * 2 * half)):
            continue
        batch = [probe(length)] * rows
        _seconds(infer, sessions, batch)
        measured[rows, length] = _seconds(infer, sessions, batch)
    for _ in range(_FURTHER_PASSES):
        for (rows, length), known in measured.items():
            if can_afford(known):
                again = _seconds(infer, sessions, [probe(length)] * rows)
                measured[rows, length] = min(known, again)
    return measured


def wide_pays(infer: Infer, narrow: Sessions, wide: Sessions, work: Work) -> bool:
    """Tell whether a lone work is clearly faster on the wide sessions."""
    for sessions in (narrow, wide):
        _seconds(infer, sessions, [work])
    pairs = [(_seconds(infer, narrow, [work]), _seconds(infer, wide, [work])) for _ in range(5)]
    alone = min(seconds for seconds, _ in pairs)
    together = min(seconds for _, seconds in pairs)
    return together < (1 - _WIDE_MUST_SAVE) * alone


def _points(plan: WarmUpPlan) -> Iterator[tuple[int, int]]:
    rows = 1
    while rows <= plan.max_batch_size:
        for length in plan.lengths:
            if rows == 1 or plan.max_batch_cost is None or rows * length <= plan.max_batch_cost:
                yield rows, length
        rows *= 2


def _seconds(infer: Infer, sessions: Sessions, batch: Sequence[Work]) -> float:
    started = time.perf_counter()
    infer(sessions, batch)
    return time.perf_counter() - started
