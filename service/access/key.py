"""A key and its limits, as the keys file describes them. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal, TypeAlias

from service.tasks import ComposedTask, Task
from service.types import Share

Unit: TypeAlias = Literal["requests", "items", "characters", "pixels"]
"""What a limit counts."""

MINUTE, DAY = 60, 86_400

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of a unit a key may use.

    A limit with `spacing` refills evenly (a token bucket). Any other limit counts in a window that
    begins with the first use and ends `seconds` later.
    """

    unit: Unit
    most: int
    """Units in a window, or units that may be used at once."""
    seconds: int
    """Length of the window, or the time to refill the whole bucket, rounded up."""
    spacing: int = 0
    """Microseconds in which one unit refills; 0 for a window."""

    @property
    def name(self) -> str:
        """Return the name in response headers, and in the keys of Redis."""
        period = {MINUTE: "minute", DAY: "day"}.get(self.seconds, "second")
        return f"{self.unit}-{'second' if self.spacing else period}"

    def part(self, processes: int) -> "Limit":
        """Return the part of each of several processes, at least one unit."""
        most, spacing = -(-self.most // processes), self.spacing * processes
        seconds = ceil(most * spacing / MICROSECONDS) if spacing else self.seconds
        return Limit(self.unit, most, seconds, spacing)


def rate(per_second: float, burst: int) -> Limit:
    """Return a limit of requests.

    Args:
        per_second: requests in a second, in the long run.
        burst: requests that may come at once.
    """
    spacing = max(1, round(MICROSECONDS / per_second))
    return Limit("requests", burst, ceil(burst * spacing / MICROSECONDS), spacing)


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the keys file."""

    name: str
    digests: Sequence[bytes] = field(default=(), repr=False)
    """SHA-256 of each key that belongs to the entry."""
    models: frozenset[str] | None = None
    """None allows every model."""
    tasks: frozenset[Task | ComposedTask] | None = None
    """None allows every task."""
    is_admin: bool = False
    """Whether it may load and unload models."""
    weight: float = 1.0
    limits: Sequence[Limit] = ()

    def part(self, processes: int) -> "Key":
        """Return the key with the limits of each of several processes."""
        return replace(self, limits=[limit.part(processes) for limit in self.limits])

    @property
    def share(self) -> Share:
        """Return what the queues of the models need to know."""
        return Share(self.name, self.weight)


Amounts: TypeAlias = Mapping[Unit, int]
"""How much of each unit something uses."""
