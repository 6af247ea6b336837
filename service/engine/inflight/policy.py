"""Who joins a running batch, and which of them are read together. Plain data, plain decisions.

No clock, no event loop, no lock. Waiting works join in the order of their urgency and nobody is
passed over: a work that needs more rows than are free keeps those behind it waiting, or a stream
of small ones would hold it off for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting work."""

    urgency: tuple[int, float, float]
    """Order: higher priority, then earlier deadline, then earlier arrival."""
    rows: int
    """How many it may come to take."""
    length: int
    """What reading it costs."""
    is_suspect: bool = False
    """Was in rows whose step failed: runs with nobody beside it, so that only the guilty fail."""


@dataclass(frozen=True, slots=True)
class Room:
    """What an instance has to offer before a step."""

    free_rows: int
    used_rows: int
    """Rows that those who are running may come to take."""
    share: int
    """Rows from which on the work is left to instances that have less."""
    budget: int
    """Most cost of reading before the next step, so that those who are running do not stand still
    for long; one work is always let in."""
    holds_suspect: bool = False


def admit(waiting: Sequence[Candidate], room: Room) -> list[int]:
    """Return the indices of those who join before the next step, most urgent first."""
    if room.holds_suspect:
        return []
    joining: list[int] = []
    free, used, spent = room.free_rows, room.used_rows, 0
    for index in sorted(range(len(waiting)), key=lambda index: waiting[index].urgency):
        candidate = waiting[index]
        if candidate.is_suspect:
            return joining or ([index] if room.used_rows == 0 else [])
        too_dear = joining and spent + candidate.length > room.budget
        too_wide = used and candidate.rows > free
        if too_wide or too_dear or used >= room.share:
            break
        joining.append(index)
        free, used, spent = free - candidate.rows, used + candidate.rows, spent + candidate.length
    return joining


def fair_share(rows_wanted: int, instances: int) -> int:
    """Return how many rows an instance should have at least when all wanted rows are shared."""
    return max(1, -(-rows_wanted // instances))


def alike(lengths: Sequence[int], most_padding: float) -> list[list[int]]:
    """Group works to be read together, so that not more than a share of the cost is padding.

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
