"""Ids for objects that are seen in one frame after the other.

The method is ByteTrack's (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
Detection Box", ECCV 2022): a Kalman filter foretells where each object will be, and boxes are
assigned to these places by their overlap, first the certain boxes, then the uncertain ones.
Different from there:

- the steps of the filter follow the time stamps;
- boxes of different labels never match;
- the less certain a box, the less it moves the filter (Du et al., "GIAOTracker", ICCVW 2021): of
  an object that is half hidden, only a part is seen;
- what was lost is looked for where it was going when it was last seen well (Cao et al.,
  "Observation-Centric SORT", CVPR 2023), with both boxes enlarged (Yang et al., "Hard to Track
  Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering the Matching
  Space", WACV 2023).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import UnsupportedMediaTypeError
from service.tasks import DetectedObject

LOWEST_SCORE = 0.1
"""Least score of a box that may continue a track."""
TRACKED_FROM = 0.5
"""The usual score from which a box begins a track."""

# The largest cost (1 - overlap) of an assignment: of certain boxes, of uncertain ones, to an
# object that has no id yet, and to one that was lost.
_CERTAIN, _UNCERTAIN, _TENTATIVE, _LOST = 0.8, 0.5, 0.7, 0.8

_BUFFER = 0.5
"""By what share of its size a box is enlarged on each side, to find what was lost."""

_SIGHTINGS = 3
"""After this number an object gets its id."""
_NEVER = 1e3

# Standard deviations relative to the height of the object, as in the paper's own code.
_POSITION, _VELOCITY = 1 / 20, 1 / 160
_LEAST_DOUBT = 0.05

_MEASURED = 4
"""Centre x, centre y, width, height; the state also holds the velocity of each."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """The objects of one frame, and who came and went."""

    objects: Sequence[DetectedObject]
    """Those with the score that was asked for, and uncertain ones that continue a track."""
    ids: Sequence[int | None]
    """Of each object; None until it was seen three times."""
    entered: Sequence[int]
    left: Sequence[int]


@dataclass(eq=False, slots=True)
class _Track:
    label: str
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    seconds: float
    """Of the frame in which it was seen last."""
    seen_well: tuple[NDArray[np.float64], float]
    """State and time of the last certain sighting."""
    sightings: int = 1
    id: int | None = None

    def foretell(self, steps: float) -> None:
        """Move on by so much time, in frames."""
        move = np.eye(2 * _MEASURED)
        move[:_MEASURED, _MEASURED:] = steps * np.eye(_MEASURED)
        noise = np.repeat((_POSITION, _VELOCITY), _MEASURED) * max(self.mean[3], 1.0)
        self.mean = move @ self.mean
        self.covariance = move @ self.covariance @ move.T + steps * np.diag(noise**2)

    def correct(
        self, box: NDArray[np.float64], score: float, seconds: float, is_certain: bool
    ) -> None:
        """Take the place where the object was seen."""
        doubt = max(1.0 - score, _LEAST_DOUBT)
        noise = doubt * (_POSITION * max(self.mean[3], 1.0)) ** 2 * np.eye(_MEASURED)
        seen = self.covariance[:_MEASURED, :_MEASURED] + noise
        gain = np.linalg.solve(seen, self.covariance[:_MEASURED]).T
        self.mean = self.mean + gain @ (box - self.mean[:_MEASURED])
        self.covariance = self.covariance - gain @ seen @ gain.T
        self.seconds = seconds
        self.sightings += 1
        if is_certain:
            self.seen_well = self.mean, seconds

    def lost_at(self, seconds: float, rate: float) -> NDArray[np.float64]:
        """Return where the object would be, had it moved on as when it was last seen well."""
        mean, then = self.seen_well
        place = mean[:_MEASURED].copy()
        place[:2] += (seconds - then) * rate * mean[_MEASURED : _MEASURED + 2]
        return place


@dataclass(eq=False, slots=True)
class Tracker:
    """Follows the objects of one video."""

    threshold: float
    """Least score of a box that begins a track."""
    rate: float
    """Frames per second, for the unit of time of the filter."""
    lost_after: float = 2.0
    """Seconds without being seen after which an object has left."""
    counts: Counter[str] = field(default_factory=Counter)
    """Objects that got an id, by label."""
    entries: int = 0
    exits: int = 0
    _tracks: list[_Track] = field(default_factory=list)
    _next_id: int = 1
    _seconds: float | None = None
    _solver: Any = None

    def __post_init__(self) -> None:
        self._solver = _lap()

    def update(self, seconds: float, objects: Sequence[DetectedObject]) -> Tracked:
        """Take the objects of the next frame.

        Args:
            seconds: time of the frame.
            objects: from `LOWEST_SCORE` on.
        """
        left = self._forget(seconds)
        self._foretell(seconds)
        boxes = np.array([_centred(found.box) for found in objects]).reshape(-1, _MEASURED)
        is_certain = np.array([found.score >= self.threshold for found in objects], bool)
        owner: dict[int, _Track] = {}
        known = [track for track in self._tracks if track.id is not None]
        tentative = [track for track in self._tracks if track.id is None]
        certain, uncertain = np.flatnonzero(is_certain), np.flatnonzero(~is_certain)
        seen = _Seen(objects, boxes)
        rest = self._assign(_places(known), certain, seen, _CERTAIN, owner)
        seen_before = [track for track in rest if track.seconds == self._seconds]
        rest = [track for track in rest if track.seconds != self._seconds]
        rest += self._assign(_places(seen_before), uncertain, seen, _UNCERTAIN, owner)
        lost = [(track, track.lost_at(seconds, self.rate)) for track in rest]
        self._assign(lost, _left(certain, owner), seen.enlarged, _LOST, owner)
        unseen = self._assign(_places(tentative), _left(certain, owner), seen, _TENTATIVE, owner)
        self._tracks = [track for track in self._tracks if track not in unseen]
        for number, track in owner.items():
            score, sure = objects[number].score, bool(is_certain[number])
            track.correct(boxes[number], score, seconds, sure)
        seen_often = [t for t in owner.values() if t.sightings >= _SIGHTINGS]
        entered = self._confirm(seen_often)
        for number in (int(n) for n in certain):
            if number not in owner:
                owner[number] = self._begun(objects[number], boxes[number], seconds)
        if self._seconds is None:  # in the first frame nothing could have been seen before
            entered = self._confirm([*owner.values()])
        self._seconds = seconds
        shown = [n for n in range(len(objects)) if is_certain[n] or n in owner]
        return Tracked([objects[n] for n in shown], [owner[n].id for n in shown], entered, left)

    def _forget(self, seconds: float) -> list[int]:
        gone = [t for t in self._tracks if seconds - t.seconds > self.lost_after]
        self._tracks = [track for track in self._tracks if track not in gone]
        left = [track.id for track in gone if track.id is not None]
        self.exits += len(left)
        return left

    def _foretell(self, seconds: float) -> None:
        steps = 0.0 if self._seconds is None else (seconds - self._seconds) * self.rate
        for track in self._tracks:
            track.foretell(max(steps, 0.0))

    def _assign(
        self,
        places: Sequence["_Place"],
        numbers: NDArray[np.intp],
        seen: "_Seen",
        most: float,
        owner: dict[int, _Track],
    ) -> list[_Track]:
        """Give objects of these numbers to tracks; return the tracks that got none."""
        tracks = [track for track, _ in places]
        if not tracks or not len(numbers):
            return tracks
        at = np.array([place for _, place in places]) * seen.scale
        cost = 1 - _overlaps(at, seen.boxes[numbers] * seen.scale)
        labels = [seen.objects[n].label for n in numbers]
        cost[np.array([[t.label != label for label in labels] for t in tracks])] = _NEVER
        _, chosen, _ = self._solver.lapjv(cost, extend_cost=True, cost_limit=most)
        rest = []
        for track, column in zip(tracks, chosen, strict=True):
            if column < 0:
                rest.append(track)
            else:
                owner[int(numbers[column])] = track
        return rest

    def _confirm(self, tracks: Sequence[_Track]) -> list[int]:
        """Give ids to tracks that have none."""
        entered = []
        for track in tracks:
            if track.id is None:
                track.id = self._next_id
                self._next_id += 1
                self.counts[track.label] += 1
                entered.append(track.id)
        self.entries += len(entered)
        return entered

    def _begun(self, found: DetectedObject, box: NDArray[np.float64], seconds: float) -> _Track:
        deviations = np.repeat((2 * _POSITION, 10 * _VELOCITY), _MEASURED) * max(box[3], 1.0)
        mean = np.concatenate([box, np.zeros(_MEASURED)])
        covariance = np.diag(deviations**2)
        track = _Track(found.label, mean, covariance, seconds, (mean, seconds))
        self._tracks.append(track)
        return track


_Place: TypeAlias = tuple[_Track, NDArray[np.float64]]
"""A track, and where its object should be."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The objects of a frame, and their boxes as centres and sizes."""

    objects: Sequence[DetectedObject]
    boxes: NDArray[np.float64]
    buffer: float = 0.0

    @property
    def scale(self) -> NDArray[np.float64]:
        """Return what to multiply boxes with before they are compared."""
        larger = 1 + 2 * self.buffer
        return np.array([1.0, 1.0, larger, larger])

    @property
    def enlarged(self) -> "_Seen":
        """Return the same objects, to be compared by enlarged boxes."""
        return replace(self, buffer=_BUFFER)


def _places(tracks: Sequence[_Track]) -> Sequence[_Place]:
    return [(track, track.mean[:_MEASURED]) for track in tracks]


def _left(numbers: NDArray[np.intp], owner: dict[int, _Track]) -> NDArray[np.intp]:
    return np.array([number for number in numbers if int(number) not in owner], np.intp)


def _centred(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes (centre, size)."""
    a, b = first[:, None, :], second[None, :, :]
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1)
    union: NDArray[np.float64] = np.maximum(areas - common, 1e-9)
    return np.asarray(common / union)


def _lap() -> Any:
    try:
        import lap  # noqa: PLC0415 - part of the extra
    except ImportError:
        raise UnsupportedMediaTypeError(
            "this server cannot track objects: the package `lapx` is missing (extra `video`)"
        ) from None
    return lap
