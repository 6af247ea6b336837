"""Which items join a running batch: a table of cases."""

from dataclasses import dataclass
from math import inf

from service.engine.inflight.scheduler import Room, admit, fair_share
from service.engine.policy import Urgency
from service.types import PreparedItem


@dataclass(frozen=True)
class Candidate:
    prepared: PreparedItem
    urgency: Urgency
    rows: int
    is_suspect: bool = False


def candidate(at: float, rows: int = 1, length: int = 5, priority: int = 0) -> Candidate:
    return Candidate(PreparedItem({}, length=length), (-priority, inf, at), rows)


ROOM = Room(free_rows=8, used_rows=0, share=100, budget=1000)


def test_they_join_in_the_order_of_their_urgency_as_far_as_rows_go() -> None:
    waiting = [candidate(3, rows=4), candidate(1, rows=4), candidate(2, priority=1)]
    assert admit(waiting, ROOM) == [2, 1]


def test_a_work_that_needs_more_rows_than_are_free_is_not_overtaken() -> None:
    busy = Room(free_rows=3, used_rows=5, share=100, budget=1000)
    assert admit([candidate(1, rows=4), candidate(2)], busy) == []


def test_a_work_wider_than_all_rows_joins_alone() -> None:
    assert admit([candidate(1, rows=9), candidate(2)], ROOM) == [0]


def test_an_instance_with_its_share_leaves_work_to_the_others() -> None:
    room = Room(free_rows=8, used_rows=2, share=3, budget=1000)
    assert admit([candidate(1), candidate(2)], room) == [0]
    assert fair_share(7, 2) == 4
    assert fair_share(0, 2) == 1


def test_reading_before_a_step_is_bounded_but_one_is_always_let_in() -> None:
    room = Room(free_rows=8, used_rows=1, share=100, budget=10)
    assert admit([candidate(1, length=50), candidate(2)], room) == [0]
    assert admit([candidate(1), candidate(2), candidate(3)], room) == [0, 1]


def test_a_suspect_runs_alone() -> None:
    suspect = Candidate(PreparedItem({}, length=5), (0, inf, 1.0), 1, is_suspect=True)
    assert admit([suspect, candidate(2)], ROOM) == [0]
    used = Room(free_rows=7, used_rows=1, share=100, budget=1000)
    assert admit([suspect, candidate(2)], used) == []
    holding = Room(free_rows=7, used_rows=1, share=100, budget=1000, holds_suspect=True)
    assert admit([candidate(2)], holding) == []
