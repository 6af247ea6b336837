"""Ids of objects from frame to frame."""

from collections.abc import Sequence

import pytest

from service.tasks import DetectedObject
from service.transforms.vision.tracking import Tracked, Tracker

RATE = 10.0


def found(x: float, y: float, label: str = "card", score: float = 0.9) -> DetectedObject:
    return DetectedObject(label, score, (x, y, x + 40, y + 60))


def follow(frames: Sequence[Sequence[DetectedObject]]) -> tuple[Tracker, list[Tracked]]:
    tracker = Tracker(0.5, RATE)
    return tracker, [tracker.update(n / RATE, objects) for n, objects in enumerate(frames)]


def test_ids_survive_that_one_object_hides_the_other() -> None:
    crossing = [[found(10 + 10 * n, 50), found(310 - 10 * n, 60)] for n in range(30)]
    for n in (14, 15, 16):
        crossing[n] = crossing[n][:1]
    tracker, frames = follow(crossing)
    assert [list(frame.ids) for frame in frames] == [
        [1] if n in (14, 15, 16) else [1, 2] for n in range(30)
    ]
    assert (dict(tracker.counts), tracker.entries, tracker.exits) == ({"card": 2}, 2, 0)


def test_an_object_enters_when_it_is_seen_three_times_and_leaves_after_two_seconds() -> None:
    frames = [[] for _ in range(5)] + [[found(50, 50)] for _ in range(5)] + [[] for _ in range(25)]
    tracker, seen = follow(frames)
    assert [list(frame.ids) for frame in seen[5:8]] == [[None], [None], [1]]
    assert [n for n, frame in enumerate(seen) if frame.entered] == [7]
    (left,) = [n for n, frame in enumerate(seen) if frame.left]
    assert left == 30
    assert (tracker.entries, tracker.exits) == (1, 1)


def test_who_comes_back_later_is_another() -> None:
    here: list[DetectedObject] = [found(50, 50)]
    tracker, seen = follow([here, here, *[[]] * 25, here, here, here])
    assert list(seen[-1].ids) == [2]
    assert tracker.counts["card"] == 2


def test_what_is_seen_twice_is_not_counted() -> None:
    tracker, seen = follow([[], [found(50, 50)], [found(51, 50)], []])
    assert tracker.counts.total() == 0
    assert list(seen[1].ids) == [None]


def test_an_uncertain_box_continues_a_track_and_begins_none() -> None:
    weak = found(53, 50, score=0.2)
    tracker, seen = follow([[found(50, 50)], [weak, found(300, 50, score=0.3)], [found(56, 50)]])
    assert [list(frame.ids) for frame in seen] == [[1], [1], [1]]
    assert seen[1].objects == [weak]
    assert tracker.counts.total() == 1


def test_labels_do_not_mix() -> None:
    _, seen = follow(
        [[found(50, 50)], [found(51, 50, "hand")], [found(52, 50, "hand")], [found(53, 50, "hand")]]
    )
    assert [list(frame.ids) for frame in seen] == [[1], [None], [None], [2]]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_sampled_frames_are_followed_by_their_times(step: int) -> None:
    tracker = Tracker(0.5, RATE)
    ids = [list(tracker.update(n / RATE, [found(20 + 6 * n, 40)]).ids) for n in range(0, 60, step)]
    assert set(map(tuple, ids)) == {(1,)}


def test_frames_without_objects_and_a_first_one_are_fine() -> None:
    tracker, seen = follow([[], []])
    assert [list(frame.ids) for frame in seen] == [[], []]
    assert tracker.entries == 0
