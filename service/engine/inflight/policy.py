"""Which items join a running batch, and which of them are prefilled together.

Plain data in, plain decisions out: no clock, no event loop, no lock. Waiting items join in order
of urgency and none is overtaken: an item that needs more rows than are free keeps those behind it
waiting, because otherwise a stream of small items would delay it for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting item."""

    urgency: tuple[int, float, float]
    """Sort key: higher priority, then earlier deadline, then earlier arrival."""
    rows: int
    """Most rows it may use."""
    length: int
    """Cost of its prefill."""
    is_suspect: bool = False
    """It was in rows whose step failed: it runs without others, so that only the cause fails."""


@dataclass(frozen=True, slots=True)
class Room:
    """What an instance can offer before a step."""

    free_rows: int
    used_rows: int
    """Rows that its running items may use."""
    share: int
    """An instance that uses this many rows leaves further items to other instances."""
    budget: int
    """Most prefill cost before the next step, which bounds how long running items wait; one item
    is always admitted."""
    holds_suspect: bool = False


def admit(waiting: Sequence[Candidate], room: Room) -> list[int]:
    """Return the indices of the items that join before the next step, most urgent first."""
    if room.holds_suspect:
        return []
    joining: list[int] = []
    free, used, spent = room.free_rows, room.used_rows, 0
    for index in sorted(range(len(waiting)), key=lambda index: waiting[index].urgency):
        candidate = waiting[index]
        if candidate.is_suspect:
            return joining or ([index] if room.used_rows == 0 else [])
        is_too_expensive = joining and spent + candidate.length > room.budget
        is_too_wide = used and candidate.rows > free
        if is_too_wide or is_too_expensive or used >= room.share:
            break
        joining.append(index)
        free, used, spent = free - candidate.rows, used + candidate.rows, spent + candidate.length
    return joining


def fair_share(rows_wanted: int, instances: int) -> int:
    """Return how many rows each instance should take when all wanted rows are shared."""
    return max(1, -(-rows_wanted // instances))


def alike(lengths: Sequence[int], most_padding: float) -> list[list[int]]:
    """Group items to prefill together, so that at most a share of the cost is padding.

    Returns:
        Groups of indices, the shortest first; within a group by length.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups: list[list[int]] = []
    total = 0
    for index in order:
        total += lengths[index]
        padded = (len(groups[-1]) + 1) * lengths[index] if groups else 0
        if groups and padded - total <= most_padding * padded:
            groups[-1].append(index)
        else:
            groups.append([index])
            total = lengths[index]
    return groups
