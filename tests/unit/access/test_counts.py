"""Limits are exact: a fake clock in microseconds, no tolerance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.counts import Counts
from service.access.key import DAY, MICROSECONDS, MINUTE, Limit, rate

SECOND = MICROSECONDS


def test_a_burst_is_followed_by_the_rate_exactly() -> None:
    counts, limits = Counts(), [rate(10, burst=5)]
    assert [counts.take(limits, {"requests": 1}, 0) is None for _ in range(7)] == [True] * 5 + [
        False,
        False,
    ]
    assert counts.take(limits, {"requests": 1}, SECOND // 10 - 1) == (limits[0], 1)
    assert counts.take(limits, {"requests": 1}, SECOND // 10) is None
    assert counts.take(limits, {"requests": 1}, SECOND // 10) == (limits[0], SECOND // 10)
    assert counts.standing(limits[0], 10 * SECOND).room == 5, "a bucket does not overflow"


def test_a_window_begins_with_its_first_use_and_then_starts_again() -> None:
    counts, limits = Counts(), [Limit("items", 10, MINUTE)]
    begin = 17 * SECOND
    assert counts.take(limits, {"items": 10}, begin) is None
    assert counts.take(limits, {"items": 1}, begin + SECOND) == (limits[0], 59 * SECOND)
    assert counts.take(limits, {"items": 1}, begin + 60 * SECOND - 1) == (limits[0], 1)
    assert counts.take(limits, {"items": 1}, begin + 60 * SECOND) is None
    assert counts.standing(limits[0], begin + 60 * SECOND)[1:] == (9, 60 * SECOND)


def test_what_does_not_fit_one_limit_is_taken_from_none() -> None:
    minute, day = Limit("items", 10, MINUTE), Limit("items", 15, DAY)
    counts = Counts()
    assert counts.take([minute, day], {"items": 10}, 0) is None
    assert counts.take([minute, day], {"items": 6}, 61 * SECOND) == (
        day,
        (DAY - 61) * SECOND,
    )
    assert counts.standing(minute, 61 * SECOND).room == 10
    assert counts.take([minute, day], {"items": 5}, 61 * SECOND) is None
    assert counts.standing(day, 61 * SECOND).room == 0


def test_the_longest_wait_is_the_one_to_tell() -> None:
    minute, day = Limit("items", 5, MINUTE), Limit("items", 5, DAY)
    counts = Counts()
    assert counts.take([day, minute], {"items": 5}, 0) is None
    assert counts.take([day, minute], {"items": 1}, 0) == (day, DAY * SECOND)


def test_a_limit_made_smaller_by_a_reload_leaves_no_negative_room() -> None:
    counts = Counts()
    assert counts.take([Limit("items", 10, MINUTE)], {"items": 8}, 0) is None
    smaller = Limit("items", 5, MINUTE)
    assert counts.standing(smaller, 1).room == 0
    assert counts.take([smaller], {"items": 1}, 1) == (smaller, 60 * SECOND - 1)


@given(
    st.integers(1, 20),
    st.floats(0.5, 1000),
    st.lists(st.tuples(st.integers(0, SECOND), st.integers(1, 5)), max_size=100),
)
def test_no_interval_ever_has_more_than_burst_and_rate(
    burst: int, per_second: float, steps: list[tuple[int, int]]
) -> None:
    counts, limit = Counts(), rate(per_second, burst)
    now, accepted = 0, []
    for pause, amount in steps:
        now += pause
        late = counts.take([limit], {"requests": amount}, now)
        if late is None:
            accepted.append((now, amount))
        elif amount <= burst:
            assert counts.count(limit).wait(limit, amount, now + late[1]) == 0
            assert counts.count(limit).wait(limit, amount, now + late[1] - 1) > 0
    for first, (begin, _) in enumerate(accepted):
        total = 0
        for end, amount in accepted[first:]:
            total += amount
            assert total <= burst + (end - begin) / limit.spacing


@given(st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(1, 7)), max_size=60))
def test_no_window_ever_has_more_than_its_limit(steps: list[tuple[int, int]]) -> None:
    counts, limit, now = Counts(), Limit("items", 10, MINUTE), 0
    used: dict[int, int] = {}
    for pause, amount in steps:
        now += pause
        if counts.take([limit], {"items": amount}, now) is None:
            end = counts.count(limit).until
            used[end] = used.get(end, 0) + amount
            assert now < end <= now + 60 * SECOND
    assert all(total <= 10 for total in used.values())


def test_shared_counts_replace_the_local_ones() -> None:
    counts, window, bucket = Counts(), Limit("items", 10, MINUTE), rate(2, burst=4)
    counts.count(window).set(window, 3, 20 * SECOND, 100)
    counts.count(bucket).set(bucket, 1, 3 * SECOND // 2, 100)
    assert counts.standing(window, 100)[1:] == (3, 20 * SECOND)
    assert counts.standing(bucket, 100)[1:] == (1, 3 * SECOND // 2)


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        (rate(1, 60), "requests-second"),
        (Limit("items", 1, MINUTE), "items-minute"),
        (Limit("pixels", 1, DAY), "pixels-day"),
    ],
)
def test_names_of_limits(limit: Limit, name: str) -> None:
    assert limit.name == name
