"""Which worker gets a connection, and when an ended worker is started again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

_MOST_UNRECEIVED = 64
"""Connections that may wait for the event loop of a worker."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that could get a connection."""

    number: int
    connections: int
    """Open ones, with those that it has yet to receive."""
    unreceived: int
    """Connections that it has yet to receive."""
    is_loaded: bool
    """Whether it has loaded its models, or tried to."""
    is_responsive: bool
    """Whether its event loop ran during the last second."""
    turn: int
    """Connections that all workers had been given when it was last given one."""


def choose(candidates: Sequence[Candidate]) -> int | None:
    """Return the number of the worker that gets the next connection; None if none can.

    It is the one with the fewest connections; of several, the one that has waited longest. A worker
    that does not respond or has no models yet gets one only if all are so.
    """
    able = [one for one in candidates if one.unreceived < _MOST_UNRECEIVED]
    best = min(able, key=_rank, default=None)
    return None if best is None else best.number


def _rank(one: Candidate) -> tuple[bool, bool, int, int]:
    is_good = one.is_loaded and one.is_responsive
    return (not is_good, not one.is_responsive, one.connections, one.turn)


@dataclass(slots=True)
class BackOff:
    """How long to wait before a worker is started again: longer if the last ones never served."""

    failures: int = 0
    """Workers in a row that ended before they had loaded their models."""

    def pause(self, has_served: bool) -> float:
        """Return the seconds to wait after a worker that has ended."""
        self.failures = 0 if has_served else self.failures + 1
        if self.failures < 2:  # noqa: PLR2004 - one failure may be chance
            return 0.0
        return float(min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (self.failures - 2)))


@dataclass(slots=True)
class Silence:
    """How long the event loop of a worker has not run, in looks of a supervisor that itself runs.

    Looks and not seconds, because a machine that was suspended suspends all of them.
    """

    looks: int = 0
    _heartbeat: int = 0

    def look(self, heartbeat: int) -> None:
        """Compare the heartbeat with that of the last look."""
        self.looks = 0 if heartbeat != self._heartbeat else self.looks + 1
        self._heartbeat = heartbeat
