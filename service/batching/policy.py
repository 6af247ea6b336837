"""Which waiting items leave together, and when. Plain data in, plain decision out.

No clock, no event loop, no lock. The most urgent item is always in the batch, so nobody is
passed over for longer than the batches of those more urgent take; what the policy chooses is
its company. Rows of a batch are padded to the longest, so company of similar length is worth
more. The worth of a batch is the time its rows would cost, each in the best batch of its own
length, over the time that this batch takes (both by the measured curve).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf

from service.batching.curve import BatchCurve

_NEARLY = 0.98
"""A smaller batch within 2 % of the best worth is preferred: everyone in it waits less."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Hard limits of one lane's batches. Names follow Triton's dynamic batcher."""

    max_batch_size: int
    max_queue_size: int
    max_queue_delay: float = 0.0
    """Seconds the most urgent item may wait for company although an instance is free."""
    max_batch_cost: int | None = None
    """Most padded units (rows x longest) of a batch of more than one item."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the policy may know of a waiting item."""

    length: int
    enqueued_at: float
    deadline: float | None = None
    priority: int = 0
    group: Hashable = None

    @property
    def urgency(self) -> tuple[int, float, float]:
        """Order: higher priority, then earlier deadline, then earlier arrival."""
        return (-self.priority, inf if self.deadline is None else self.deadline, self.enqueued_at)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send the waiting items of these indices now, as one batch."""

    indices: Sequence[int]


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at `until`, or on the next arrival; None means only on an arrival."""

    until: float | None


def decide(
    limits: BatchLimits,
    curve: BatchCurve,
    waiting: Sequence[Waiting],
    now: float,
    free_instances: int = 1,
) -> Dispatch | Wait:
    """Decide over the waiting items, in any order.

    With several instances free, items are shared out between them rather than sent together.
    """
    if not waiting:
        return Wait(until=None)
    anchor = min(range(len(waiting)), key=lambda index: waiting[index].urgency)
    company = [i for i, item in enumerate(waiting) if item.group == waiting[anchor].group]
    most = min(limits.max_batch_size, -(-len(company) // max(1, free_instances)))
    leave_at = waiting[anchor].enqueued_at + limits.max_queue_delay
    if len(company) < limits.max_batch_size and now < leave_at:
        return Wait(until=leave_at)
    return Dispatch(_batch(limits, curve, waiting, company, (anchor, most)))


def _batch(
    limits: BatchLimits,
    curve: BatchCurve,
    waiting: Sequence[Waiting],
    company: list[int],
    bounds: tuple[int, int],
) -> list[int]:
    """Grow a window of lengths around the anchor and return the best one seen."""
    anchor, most = bounds
    ordered = sorted(company, key=lambda index: (waiting[index].length, waiting[index].urgency))
    low = high = ordered.index(anchor)
    worth = curve.ideal(waiting[anchor].length)
    seen = [((low, high), worth / curve.seconds(1, waiting[anchor].length))]
    for rows in range(2, most + 1):
        options = []
        for begin, end, added in ((low - 1, high, low - 1), (low, high + 1, high + 1)):
            if begin < 0 or end >= len(ordered):
                continue
            longest = waiting[ordered[end]].length
            if limits.max_batch_cost is not None and rows * longest > limits.max_batch_cost:
                continue
            total = worth + curve.ideal(waiting[ordered[added]].length)
            options.append((total / curve.seconds(rows, longest), total, begin, end))
        if not options:
            break
        value, worth, low, high = max(options)
        seen.append(((low, high), value))
    best = max(value for _, value in seen)
    begin, end = next(window for window, value in seen if value >= _NEARLY * best)
    return ordered[begin : end + 1]
