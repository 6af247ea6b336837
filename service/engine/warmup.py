"""Measures how long batches take before a model is ready, within a time budget."""

import asyncio
import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from math import inf

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import run_on
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.runtime.instances import Clock, Infer, Instances
from service.telemetry.meters import NullMeter
from service.types import Lane, Model, PreparedItem, Sessions, Tensors

# Share of an unbatched item's time that multi-thread sessions must save to be kept.
_MULTI_THREAD_MUST_SAVE = 0.05

# Compare at most three times, half a second apart: on a shared host two cores sometimes do hardly
# more than one for seconds, and a service started then would be slower for its whole life.
_COMPARISONS, _PAUSE_SECONDS = 3, 0.5

# An item faster than this gains little in any case: one comparison is enough.
_SHORT_SECONDS = 4e-3

# Runs on single-thread and multi-thread sessions in turn: at least, at most, and for how long more
# are added. Multi-thread runs need all cores at once, so a busy machine slows them down more often.
_PAIRS, _MOST_PAIRS, _PAIRS_SECONDS = 4, 16, 0.2

# A translation of the middle length may take seconds, and a comparison needs several.
_LONE_SECONDS = 0.05

# Runs of a point at first, within the budget; the first of them also warms up.
_RUNS = 2

# A batch that takes less than half of this runs more often at first, so that noise does not look
# like a batch that gains nothing. Measurements of a DistilBERT-size classifier on a busy host
# differed by 5 to 6 % at most points with 0.01, by 1 to 3 % with this, within the same budget.
_POINT_SECONDS = 0.03
_MOST_RUNS = 8

_FURTHER_PASSES = 4

# Lengths up to this, in tokens or pixels, are always timed.
_ALWAYS_TIMED = 1024

# Longest run of one row on one thread. A text of 8,192 tokens took ModernBERT 80 s and 8 GB of
# attention, which the session then kept.
_LONGEST_SECONDS = 2.0

# A kept curve is measured again where a run takes longer, or shorter, than these factors allow,
# and by more than this time. Other programs make runs longer, even in processor time: on a host
# shared with three of them, twice as long was common, for tenths of a second.
_LONGER, _SHORTER, _NEGLIGIBLE_SECONDS = 2.5, 1.5, 1e-4
_CHECKS, _CHECK_PAUSE_SECONDS = 3, 0.05

# Batches smaller than this are always doubled: some kernels gain only from the next size on.
_SMALL = 4

# A batch that took this share of twice the time of its half is not doubled again.
_NO_GAIN = 0.99


@dataclass(frozen=True, slots=True)
class WarmUpPlan:
    """What to measure. Lengths ascend; `budget_seconds` is a soft limit for all of it."""

    lengths: Sequence[int]
    max_batch_size: int
    max_batch_cost: int | None
    budget_seconds: float

    def allows(self, rows: int, length: int) -> bool:
        """Return whether a batch is within the limits."""
        fits = self.max_batch_cost is None or rows * length <= self.max_batch_cost
        return fits and rows <= self.max_batch_size


def measure(
    infer: Infer,
    sessions: Sessions,
    probe: Callable[[int], PreparedItem],
    plan: WarmUpPlan,
    clock: Clock,
) -> dict[tuple[int, int], float]:
    """Return seconds by (rows, length): the best of several passes, after a warm-up run.

    `clock` times a run; the budget is wall-clock time.

    Lengths are timed with one row, the shortest first, until a run would take too long; longer ones
    are extrapolated. Then, within the budget, batches are doubled, the cheapest first, as long as
    doubling gains. The remaining time goes to further passes over all points, so that a moment in
    which another process takes the processor does not spoil a point for good. Blocking: call it on
    a device thread.
    """
    started = time.perf_counter()
    measured: dict[tuple[int, int], float] = {}

    def can_afford(seconds: float) -> bool:
        return time.perf_counter() - started + seconds <= plan.budget_seconds

    next_points = [(0.0, 1, length) for length in plan.lengths]
    while next_points:
        expected, rows, length = heapq.heappop(next_points)
        if rows > 1 and not can_afford(_RUNS * expected):
            break
        if _is_too_long(measured, rows, length):
            continue
        enough = inf if rows < _SMALL else _NO_GAIN * 2 * measured[rows // 2, length]
        seconds = _best(infer, sessions, [probe(length)] * rows, clock, can_afford, enough)
        measured[rows, length] = seconds
        if seconds < enough and plan.allows(2 * rows, length):
            heapq.heappush(next_points, (2 * seconds, 2 * rows, length))
    for rows, length in [*measured] * _FURTHER_PASSES:
        if can_afford(known := measured[rows, length]):
            again = _seconds(infer, sessions, [probe(length)] * rows, clock)
            measured[rows, length] = min(known, again)
    return {**measured, **_beyond(measured, plan.lengths)}


def _is_too_long(measured: Mapping[tuple[int, int], float], rows: int, length: int) -> bool:
    """Return whether one row may take too long, judged by the longest that was timed."""
    lone = [at for count, at in measured if count == 1]
    if rows > 1 or not lone or length <= _ALWAYS_TIMED:
        return False
    longest = max(lone)
    return measured[1, longest] * (length / longest) ** 2 > _LONGEST_SECONDS


def _beyond(
    measured: Mapping[tuple[int, int], float], lengths: Sequence[int]
) -> Mapping[tuple[int, int], float]:
    """Return the extrapolated seconds of one row for the lengths that were not timed."""
    lone = {length: seconds for (rows, length), seconds in measured.items() if rows == 1}
    return {(1, n): _extrapolated(lone, n) for n in lengths if n not in lone}


def _extrapolated(lone: Mapping[int, float], length: int) -> float:
    """Return the seconds of one row: a linear and a quadratic share of its length.

    Attention grows with the square of the length, the rest of a network linearly.
    """
    *_, before, longest = [0, *sorted(lone)]
    rate = lone[longest] / longest
    square = (rate - lone[before] / before) / (longest - before) if before else 0.0
    square = min(max(square, 0.0), rate / longest)
    return (rate - square * longest) * length + square * length**2


def lone_length(measured: Mapping[tuple[int, int], float], lengths: Sequence[int]) -> int:
    """Return the length at which to compare sessions: the middle one, or a shorter, fast one."""
    middle = lengths[len(lengths) // 2]
    quick = [n for n in lengths if n <= middle and measured[1, n] <= _LONE_SECONDS]
    return max(quick, default=lengths[0])


def multi_thread_pays(infer: Infer, one: Sessions, several: Sessions, item: PreparedItem) -> bool:
    """Return whether an unbatched item is clearly faster on multi-thread sessions.

    `one` are the single-thread sessions, `several` the multi-thread ones.
    """
    for attempt in range(_COMPARISONS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        single_thread, multi_thread = _compared(infer, one, several, item)
        if multi_thread < (1 - _MULTI_THREAD_MUST_SAVE) * single_thread:
            return True
        if single_thread < _SHORT_SECONDS:
            break
    return False


def _compared(
    infer: Infer, one: Sessions, several: Sessions, item: PreparedItem
) -> tuple[float, float]:
    """Return the best seconds of an unbatched item on each kind of session, run in turn."""
    clock = time.perf_counter
    started = clock()
    for sessions in (one, several):
        _seconds(infer, sessions, [item], clock)
    single: list[float] = []
    multi: list[float] = []
    while len(single) < _PAIRS or (
        len(single) < _MOST_PAIRS and clock() - started < _PAIRS_SECONDS
    ):
        single.append(_seconds(infer, one, [item], clock))
        multi.append(_seconds(infer, several, [item], clock))
    return min(single), min(multi)


def _best(
    infer: Infer,
    sessions: Sessions,
    batch: Sequence[PreparedItem],
    clock: Clock,
    can_afford: Callable[[float], bool],
    enough: float,
) -> float:
    """Return the shortest of several runs, of twice as many if all of the first took `enough`."""

    def runs() -> float:
        started = time.perf_counter()
        best = last = _seconds(infer, sessions, batch, clock)
        count = 1
        while can_afford(last) and (
            count < _RUNS or (count < _MOST_RUNS and time.perf_counter() - started < _POINT_SECONDS)
        ):
            last = _seconds(infer, sessions, batch, clock)
            best, count = min(best, last), count + 1
        return best

    best = runs()
    if best >= enough and can_afford(_RUNS * best):  # it may have been noise
        best = min(best, runs())
    return best


def _seconds(
    infer: Infer, sessions: Sessions, batch: Sequence[PreparedItem], clock: Clock
) -> float:
    started = clock()
    infer(sessions, batch)
    return clock() - started


def warm_up_plan(lane: Lane, limits: BatchLimits, budget: float) -> WarmUpPlan:
    """Return a plan with at most four lengths, from the shortest to the longest."""
    lengths = list(lane.lengths)
    if len(lengths) > 4:  # noqa: PLR2004 - see above
        picked = sorted({0, len(lengths) // 3, 2 * len(lengths) // 3, len(lengths) - 1})
        lengths = [lengths[index] for index in picked]
    return WarmUpPlan(lengths, limits.max_batch_size, limits.max_batch_cost, budget)


def time_lane(
    model: Model, instances: Instances, lane: str, plan: WarmUpPlan, dispatch: float
) -> tuple[BatchCurve, bool]:
    """Measure one lane on this thread; also return whether multi-thread sessions pay."""
    probe = partial(model.probe, lane)
    instances.open_multi_thread()
    measured = measure(model.infer, instances.single_thread, probe, plan, instances.warm_up_clock)
    curve = BatchCurve.of(measured, dispatch)
    several = instances.multi_thread
    if several is None:
        return curve, False
    lone = probe(lone_length(measured, plan.lengths))
    return curve, multi_thread_pays(model.infer, instances.single_thread, several, lone)


def still_holds(model: Model, instances: Instances, lane: str, curve: BatchCurve) -> bool:
    """Measure one point of a curve again on this thread; return whether it is about the same."""
    known = {(1, length): curve.computation(1, length) for length in curve.lengths}
    length = lone_length(known, curve.lengths)
    item, sessions = model.probe(lane, length), instances.single_thread
    _seconds(model.infer, sessions, [item], instances.warm_up_clock)  # warms up
    best, before = inf, known[1, length]
    for attempt in range(_CHECKS):
        if attempt:
            time.sleep(_CHECK_PAUSE_SECONDS)
        for _ in range(_RUNS):
            best = min(best, _seconds(model.infer, sessions, [item], instances.warm_up_clock))
        if best <= _LONGER * before + _NEGLIGIBLE_SECONDS:
            return before <= _SHORTER * best + _NEGLIGIBLE_SECONDS
    return False


_ROUNDS, _BATCHES = 5, 40

# Under load a batch also costs iterations of the event loop and waits for the interpreter's lock.
# A batch of a small classifier cost about 0.5 ms (64 in flight) where 0.09 ms were measured at
# rest; a factor that high would make batches too large when few items wait.
_UNDER_LOAD = 3


async def dispatch_seconds(threads: Executor, slots: Slots) -> float:
    """Return what a batch of a busy service costs besides its computation.

    This decides how large the batches of a small model should be, whose computation takes no
    longer. Measured with batches that compute nothing; the best of a few rounds.
    """
    limits = BatchLimits(max_batch_size=1, max_queue_size=_BATCHES)
    batcher = Batcher(partial(run_on, threads, _nothing), limits, slots, NullMeter())
    batcher.start()
    try:
        return _UNDER_LOAD * min([await _round(batcher) for _ in range(_ROUNDS)])
    finally:
        await batcher.stop(grace=0)


async def _round(batcher: Batcher) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(batcher.submit(PreparedItem({})) for _ in range(_BATCHES)))
    return (time.perf_counter() - started) / _BATCHES


def _nothing(batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
    return [{} for _ in batch]
