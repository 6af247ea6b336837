"""The ways to compute a version, what was measured of them, and which ones are used. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from service.engine.side_by_side import Pair, ratio, saves_enough
from service.repository.deviation import total_deviation
from service.repository.exactness import CLOSE_SCORE, Exactness, agrees
from service.repository.manifest import DEFAULT_TOLERANCE, Precision
from service.repository.repository import VersionFiles
from service.tasks import Answer, Task
from service.types import Lane, Tensors

Verdict: TypeAlias = Literal["first_choice", "chosen", "not_faster", "not_exact", "refused"]

# Vectors with a cosine of 0.999 differ by at most this in an element, if their length is 1.
_CLOSE_ELEMENT = 0.045

# A channel whose values are all smaller is compared as one of this size.
_SMALL = 1e-3


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to compute some sessions of a version, and what was found out about it."""

    provider: str
    """As `models.provider` names it."""
    precision: Precision
    """Of the graphs."""
    inference_precision: str
    """What float32 is computed in."""
    sessions: tuple[str, ...]
    """What it computes; the others stay with the first choice."""
    verdict: Verdict
    deviation: float | None = None
    """From the goldens; without goldens from the first choice, as a share of the largest value."""
    ratio: float | None = None
    """Its time as a share of the first choice's."""
    reason: str | None = None
    """Why it was refused, or is not exact."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidates compute a version."""

    candidates: Sequence[Candidate]
    tolerance: float
    """Largest deviation from the goldens that the version may have with what was chosen."""

    @property
    def chosen(self) -> Sequence[Candidate]:
        """Return the candidates that replace the first choice for their sessions; perhaps none."""
        return [one for one in self.candidates if one.verdict == "chosen"]

    def without(self, reason: str) -> "Choice":
        """Return the same candidates where those that were chosen turned out not to be exact."""
        return replace(
            self,
            candidates=[
                replace(one, verdict="not_exact", reason=reason) if one.verdict == "chosen" else one
                for one in self.candidates
            ],
        )


def units(lanes: Sequence[Lane], movable: Sequence[str]) -> Sequence[tuple[Lane, str]]:
    """Return the sessions for each of which a provider is chosen, with a lane that runs it.

    A part of a graph that holds several lanes has the name of its lane (`Traits.parts`).
    """
    found = [
        (name, [lane for lane in lanes if name in lane.sessions or name == lane.name])
        for name in movable
    ]
    return [(running[0], name) for name, running in found if running]


def inexact(
    exactness: Exactness,
    files: VersionFiles,
    found: Sequence[Answer],
    first: Sequence[Answer],
) -> str | None:
    """Return why answers to the goldens are not exact enough; None if they are.

    An answer is exact enough if it is near the recorded one, or near that of the first choice.
    """
    tolerance = files.tolerance
    for number, (answer, own, golden) in enumerate(zip(found, first, files.goldens, strict=True)):
        near = (agrees(exactness, answer, other, tolerance) for other in (golden.answer, own))
        if not any(near):
            return f"the answer to golden {number} is too far from the recorded one"
    return None


def golden_deviation(files: VersionFiles, deviations: Sequence[float]) -> float:
    """Return the deviation of a version over all its goldens."""
    return total_deviation(files.manifest.task, deviations)


def allowed(exactness: Exactness, files: VersionFiles) -> float:
    """Return the largest deviation from the goldens of a version that is not the first choice."""
    if exactness == "strict" or files.manifest.task in (Task.TRANSLATE, Task.GENERATE):
        return files.tolerance
    is_vector = files.manifest.task is Task.EMBED
    return max(files.tolerance, _CLOSE_ELEMENT if is_vector else CLOSE_SCORE)


def relative_limit(exactness: Exactness, tolerance: float) -> float:
    """Return the largest `relative_difference` of tensors."""
    limits = {"strict": DEFAULT_TOLERANCE, "close": CLOSE_SCORE, "fast": CLOSE_SCORE}
    return max(limits[exactness], tolerance if exactness == "fast" else 0.0)


def relative_difference(one: Tensors, other: Tensors) -> float:
    """Return the largest difference of two results of an item, as a share of the largest value.

    Of a tensor of several axes, each channel has its own largest value: a detector gives scores
    and coordinates in pixels. Channels are the shorter one of the first and the last axis.
    """
    if one.keys() != other.keys():
        return math.inf
    return max((_difference(one[name], wanted) for name, wanted in other.items()), default=0.0)


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return math.inf
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else math.inf
    if not wanted.size:
        return 0.0
    if not np.isfinite(found).all():
        return math.inf
    sizes, errors = (_of_channels(each) for each in (wanted, found.astype(np.float64) - wanted))
    scales = np.maximum(sizes, max(min(_SMALL, float(sizes.max())), 1e-6))
    return float((errors / scales).max())


def _of_channels(values: np.ndarray) -> np.ndarray:
    """Return the largest magnitude of each channel."""
    axis = -1 if values.ndim and values.shape[0] > values.shape[-1] else 0
    rows = np.moveaxis(np.atleast_2d(values), axis, 0)
    return np.asarray(np.abs(rows.reshape(len(rows), -1)).max(axis=1))


def judged(candidate: Candidate, pairs: Sequence[Pair]) -> Candidate:
    """Return a candidate with its time and whether it is faster."""
    verdict: Verdict = "chosen" if saves_enough(pairs) else "not_faster"
    return replace(candidate, ratio=round(ratio(pairs), 3), verdict=verdict)


def best(
    candidates: Sequence[Candidate], precision: Precision, lanes: Mapping[str, str]
) -> Sequence[Candidate]:
    """Return the candidates that win among those that are faster than the first choice.

    Args:
        candidates: all that were judged.
        precision: of the first choice; a candidate of another one computes all sessions.
        lanes: of each session.
    """
    faster = [one for one in candidates if one.verdict == "chosen"]
    by_session: dict[tuple[str, ...], Candidate] = {}
    for one in faster:
        if one.precision == precision:
            known = by_session.get(one.sessions)
            if known is None or _time(one) < _time(known):
                by_session[one.sessions] = one
    whole = [one for one in faster if one.precision != precision]
    joined = 1.0
    for one in by_session.values():
        joined *= _time(one) ** (1 / len(set(lanes.values())))
    if whole and _time(lightest := min(whole, key=_time)) < joined:
        return [lightest]
    return list(by_session.values())


def _time(candidate: Candidate) -> float:
    return 1.0 if candidate.ratio is None else candidate.ratio
