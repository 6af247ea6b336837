"""The policy is a pure function: a table of what waits and what leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.curve import BatchCurve
from service.engine.policy import BatchLimits, Dispatch, Urgency, Wait, decide
from service.types import PreparedItem

LIMITS = BatchLimits(max_batch_size=4, max_queue_size=100)
FLAT = BatchCurve.of({(1, 100): 0.01, (4, 100): 0.04})
STEEP = BatchCurve.of(
    {(1, 10): 0.010, (4, 10): 0.016, (1, 100): 0.100, (4, 100): 0.160},
)


@dataclass(frozen=True)
class Waiting:
    prepared: PreparedItem
    urgency: Urgency


def waiting_item(
    length: int,
    enqueued_at: float,
    deadline: float = inf,
    priority: int = 0,
    group: tuple[int] | None = None,
) -> Waiting:
    prepared = PreparedItem({}, length=length, group=group)
    return Waiting(prepared, (-priority, deadline, enqueued_at))


def items(*lengths: int) -> list[Waiting]:
    return [waiting_item(length, float(i)) for i, length in enumerate(lengths)]


def chosen(decision: Dispatch | Wait) -> set[int]:
    assert isinstance(decision, Dispatch)
    return set(decision.indices)


@pytest.mark.parametrize(
    ("waiting", "curve", "leaves"),
    [
        pytest.param(items(10), STEEP, {0}, id="one item leaves at once"),
        pytest.param(items(10, 10, 10), STEEP, {0, 1, 2}, id="alike items leave together"),
        pytest.param(items(*[10] * 6), STEEP, {0, 1, 2, 3}, id="never more than the limit"),
        pytest.param(items(10, 10, 10), FLAT, {0}, id="alone where batching gains nothing"),
        pytest.param(items(10, 100, 10, 100), STEEP, {0, 2}, id="the oldest and its like"),
        pytest.param(items(100, 10, 10, 100), STEEP, {0, 3}, id="also when the oldest is long"),
        pytest.param(items(12, 10, 13, 100), STEEP, {0, 1, 2}, id="nearly alike is alike"),
    ],
)
def test_who_leaves(waiting: Sequence[Waiting], curve: BatchCurve, leaves: set[int]) -> None:
    assert chosen(decide(LIMITS, curve, waiting, now=10.0)) == leaves


def test_nothing_waiting_means_waiting_for_an_arrival() -> None:
    assert decide(LIMITS, STEEP, [], now=0.0) == Wait(until=None)


def test_higher_priority_leaves_first() -> None:
    waiting = [waiting_item(10, 0.0), waiting_item(100, 1.0, priority=1)]
    assert chosen(decide(LIMITS, STEEP, waiting, now=2.0)) == {1}


def test_of_equal_priority_the_earlier_deadline_leaves_first() -> None:
    waiting = [waiting_item(10, 0.0, deadline=9.0), waiting_item(100, 1.0, deadline=5.0)]
    assert chosen(decide(LIMITS, STEEP, waiting, now=2.0)) == {1}


def test_a_deadline_is_more_urgent_than_none() -> None:
    waiting = [waiting_item(10, 0.0), waiting_item(100, 1.0, deadline=60.0)]
    assert chosen(decide(LIMITS, STEEP, waiting, now=2.0)) == {1}


def test_who_came_late_to_a_long_queue_does_not_pass_the_others() -> None:
    lengths = [10] + [100] * 9 + [10] * 10
    assert max(chosen(decide(LIMITS, STEEP, items(*lengths), now=30.0))) < 10


def test_of_a_long_queue_the_more_urgent_half_is_asked_whatever_came_first() -> None:
    late = [waiting_item(10, 20.0 + i, priority=1) for i in range(5)]
    waiting = [*items(*[100] * 15), *late]
    assert chosen(decide(LIMITS, STEEP, waiting, now=30.0)) == {15, 16, 17, 18}


def test_a_queue_of_little_work_is_company_as_a_whole() -> None:
    quick = BatchCurve.of({(1, 10): 0.0010, (4, 10): 0.0016, (1, 100): 0.0100, (4, 100): 0.0160})
    waiting = items(10, *[100] * 9, *[10] * 10)
    assert min(chosen(decide(LIMITS, quick, waiting, now=30.0)) - {0}) >= 10


def test_groups_never_share_a_batch() -> None:
    waiting = [
        waiting_item(10, 0.0, group=(1,)),
        waiting_item(10, 1.0, group=(4,)),
        waiting_item(10, 2.0, group=(1,)),
    ]
    assert chosen(decide(LIMITS, STEEP, waiting, now=3.0)) == {0, 2}


def test_free_instances_share_the_work() -> None:
    decision = decide(LIMITS, STEEP, items(10, 10, 10, 10), now=9.0, free_instances=2)
    assert len(chosen(decision)) == 2


def test_a_queue_delay_waits_for_company() -> None:
    limits = BatchLimits(4, 100, max_queue_delay=5.0)
    assert decide(limits, STEEP, items(10, 10), now=2.0) == Wait(until=5.0)
    assert chosen(decide(limits, STEEP, items(10, 10), now=5.0)) == {0, 1}


def test_a_full_batch_does_not_wait_out_the_delay() -> None:
    limits = BatchLimits(4, 100, max_queue_delay=50.0)
    assert len(chosen(decide(limits, STEEP, items(10, 10, 10, 10), now=3.0))) == 4


def test_the_padded_cost_bounds_a_batch_but_never_a_single_item() -> None:
    limits = BatchLimits(4, 100, max_batch_cost=25)
    assert len(chosen(decide(limits, STEEP, items(10, 10, 10, 10), now=9.0))) == 2
    assert chosen(decide(limits, STEEP, items(100), now=9.0)) == {0}


waitings = st.builds(
    waiting_item,
    length=st.integers(1, 200),
    enqueued_at=st.floats(0, 10),
    deadline=st.just(inf) | st.floats(10, 20),
    priority=st.integers(-2, 2),
    group=st.tuples(st.integers(0, 2)),
)


@given(st.lists(waitings, min_size=1, max_size=40), st.integers(1, 3))
def test_every_batch_holds_the_most_urgent_item_and_keeps_the_limits(
    waiting: list[Waiting], free: int
) -> None:
    limits = BatchLimits(8, 100, max_batch_cost=400)
    indices = decide(limits, STEEP, waiting, now=10.0, free_instances=free).indices  # type: ignore[union-attr]
    batch = [waiting[index] for index in indices]
    assert min(waiting, key=lambda w: w.urgency).urgency in [w.urgency for w in batch]
    assert len(set(indices)) == len(batch) <= 8
    assert len({w.prepared.group for w in batch}) == 1
    assert len(batch) == 1 or len(batch) * max(w.prepared.length for w in batch) <= 400
