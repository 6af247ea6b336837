"""Runs a lane before it is ready: batch buckets, as far as they are affordable, and their time."""

import asyncio
import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import run_on
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.runtime.instances import Clock, Infer, Instances
from service.telemetry.meters import NullMeter
from service.types import Lane, Model, PreparedItem, Sessions, Tensors

_WIDE_MUST_SAVE = 0.05
"""Share of a lone request's time that a second set of sessions must save to be worth it."""

_LOOKS, _PAUSE_SECONDS = 3, 0.5
"""At most so many comparisons, so far apart: on a shared host there are seconds in which two cores
do hardly more than one. Of a service that started in them, all lone requests would be slower."""

_SHORT_SECONDS = 4e-3
"""A lone request that takes less gains little in any case: one comparison is enough."""

_PAIRS, _MOST_PAIRS, _PAIRS_SECONDS = 4, 16, 0.2
"""Of runs on narrow and wide sessions in turn: at least, at most, and until when there are more.
Wide ones need all cores at once, so a busy machine spoils theirs more often."""

_LONE_SECONDS = 0.05
"""A translation of the middle length may take seconds, and the comparison needs several."""

_RUNS = 2
"""Of a point at first, as far as the budget goes; the first of them also warms up."""

_MOST_RUNS = 8
_POINT_SECONDS = 0.03
"""A batch that takes less than half of this runs more often at first: noise must not look like a
batch that gains nothing. Warm-ups of a DistilBERT-size classifier on a busy host differed by 5 to
6 % at most points with 0.01, by 1 to 3 % with this, within the same budget."""

_FURTHER_PASSES = 4

_ALWAYS_TIMED = 1024
"""Tokens or pixels."""

_LONGEST_SECONDS = 2.0
"""Of one row on one thread. A text of 8,192 tokens took ModernBERT 80 s and 8 GB of attention,
which the session then kept."""

_SMALL = 4
"""Below it a batch is doubled in any case: some kernels gain only from the next size on."""

_NO_GAIN = 0.99
"""A batch that took this share of twice the time of its half is not doubled again."""


@dataclass(frozen=True, slots=True)
class WarmUpPlan:
    """What to time. Lengths ascend; `budget_seconds` bounds the whole of it, softly."""

    lengths: Sequence[int]
    max_batch_size: int
    max_batch_cost: int | None
    budget_seconds: float

    def allows(self, rows: int, length: int) -> bool:
        """Tell whether a batch is within the limits."""
        fits = self.max_batch_cost is None or rows * length <= self.max_batch_cost
        return fits and rows <= self.max_batch_size


def measure(
    infer: Infer,
    sessions: Sessions,
    probe: Callable[[int], PreparedItem],
    plan: WarmUpPlan,
    clock: Clock,
) -> dict[tuple[int, int], float]:
    """Return seconds by (rows, length): the best of several passes, after a run that warms up.

    `clock` times a run; the budget is of real time.

    Lengths are timed at one row, the shortest first, up to where a run is expected to take too
    long; those beyond get the time that the timed ones foretell. Then, as far as the budget goes,
    batches are doubled, always the cheapest next, as long as doubling still gains. What time is
    left goes to further passes over all points in turn, so that a moment in which something else
    takes the processor does not spoil a point for good. Blocking: call it on a device thread.
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
        seconds = _best(infer, sessions, [probe(length)] * rows, clock, can_afford)
        measured[rows, length] = seconds
        gains = rows < _SMALL or seconds < _NO_GAIN * 2 * measured[rows // 2, length]
        if gains and plan.allows(2 * rows, length):
            heapq.heappush(next_points, (2 * seconds, 2 * rows, length))
    for rows, length in [*measured] * _FURTHER_PASSES:
        if can_afford(known := measured[rows, length]):
            again = _seconds(infer, sessions, [probe(length)] * rows, clock)
            measured[rows, length] = min(known, again)
    return {**measured, **_beyond(measured, plan.lengths)}


def _is_too_long(measured: Mapping[tuple[int, int], float], rows: int, length: int) -> bool:
    """Tell whether one row may take too long, by the longest that was timed."""
    lone = [at for count, at in measured if count == 1]
    if rows > 1 or not lone or length <= _ALWAYS_TIMED:
        return False
    longest = max(lone)
    return measured[1, longest] * (length / longest) ** 2 > _LONGEST_SECONDS


def _beyond(
    measured: Mapping[tuple[int, int], float], lengths: Sequence[int]
) -> Mapping[tuple[int, int], float]:
    """Return the seconds of one row of the lengths that were not timed."""
    lone = {length: seconds for (rows, length), seconds in measured.items() if rows == 1}
    return {(1, n): _foretold(lone, n) for n in lengths if n not in lone}


def _foretold(lone: Mapping[int, float], length: int) -> float:
    """Return the seconds of one row: a share in proportion to its length, one to its square.

    Attention grows with the square, the rest of a network in proportion.
    """
    *_, before, longest = [0, *sorted(lone)]
    rate = lone[longest] / longest
    square = (rate - lone[before] / before) / (longest - before) if before else 0.0
    square = min(max(square, 0.0), rate / longest)
    return (rate - square * longest) * length + square * length**2


def lone_length(measured: Mapping[tuple[int, int], float], lengths: Sequence[int]) -> int:
    """Return the length to compare sessions at: the middle one, or a shorter one that is quick."""
    middle = lengths[len(lengths) // 2]
    quick = [n for n in lengths if n <= middle and measured[1, n] <= _LONE_SECONDS]
    return max(quick, default=lengths[0])


def wide_pays(infer: Infer, narrow: Sessions, wide: Sessions, work: PreparedItem) -> bool:
    """Tell whether a lone work is clearly faster on the wide sessions, at any of a few looks."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_SECONDS)
        alone, together = _compared(infer, narrow, wide, work)
        if together < (1 - _WIDE_MUST_SAVE) * alone:
            return True
        if alone < _SHORT_SECONDS:
            break
    return False


def _compared(
    infer: Infer, narrow: Sessions, wide: Sessions, work: PreparedItem
) -> tuple[float, float]:
    """Return the best seconds of a lone work on either sessions, run in turn."""
    clock = time.perf_counter
    started = clock()
    for sessions in (narrow, wide):
        _seconds(infer, sessions, [work], clock)
    alone: list[float] = []
    together: list[float] = []
    while len(alone) < _PAIRS or (len(alone) < _MOST_PAIRS and clock() - started < _PAIRS_SECONDS):
        alone.append(_seconds(infer, narrow, [work], clock))
        together.append(_seconds(infer, wide, [work], clock))
    return min(alone), min(together)


def _best(
    infer: Infer,
    sessions: Sessions,
    batch: Sequence[PreparedItem],
    clock: Clock,
    can_afford: Callable[[float], bool],
) -> float:
    started = time.perf_counter()
    runs = [_seconds(infer, sessions, batch, clock)]
    while can_afford(runs[-1]) and (
        len(runs) < _RUNS
        or (len(runs) < _MOST_RUNS and time.perf_counter() - started < _POINT_SECONDS)
    ):
        runs.append(_seconds(infer, sessions, batch, clock))
    return min(runs)


def _seconds(
    infer: Infer, sessions: Sessions, batch: Sequence[PreparedItem], clock: Clock
) -> float:
    started = clock()
    infer(sessions, batch)
    return clock() - started


def warm_up_plan(lane: Lane, limits: BatchLimits, budget: float) -> WarmUpPlan:
    """Time at most four lengths, spread from the shortest to the longest."""
    lengths = list(lane.lengths)
    if len(lengths) > 4:  # noqa: PLR2004 - said above
        picked = sorted({0, len(lengths) // 3, 2 * len(lengths) // 3, len(lengths) - 1})
        lengths = [lengths[index] for index in picked]
    return WarmUpPlan(lengths, limits.max_batch_size, limits.max_batch_cost, budget)


def time_lane(
    model: Model, instances: Instances, lane: str, plan: WarmUpPlan, dispatch: float
) -> tuple[BatchCurve, bool]:
    """Measure one lane on this thread; also whether a lone item gains from all threads."""
    probe = partial(model.probe, lane)
    measured = measure(model.infer, instances.single_thread, probe, plan, instances.clock)
    curve = BatchCurve.of(measured, dispatch)
    wide = instances.multi_thread
    if wide is None:
        return curve, False
    lone = probe(lone_length(measured, plan.lengths))
    return curve, wide_pays(model.infer, instances.single_thread, wide, lone)


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


def _nothing(batch: Sequence[PreparedItem], alone: bool) -> Sequence[Tensors]:
    return [{} for _ in batch]
