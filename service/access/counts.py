"""How much of its limits a key has used, exactly, in this process.

Pure: the time is an argument, in whole microseconds, so that nothing is lost to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.access.key import MICROSECONDS, Amounts, Limit


class Standing(NamedTuple):
    """What is left of a limit."""

    limit: Limit
    room: int
    """Units that are left."""
    reset: int
    """Microseconds until all of the limit is available again."""


@dataclass(slots=True)
class Count:
    """What was used of one limit."""

    used: int = 0
    """Units in the present window; 0 for a limit that refills."""
    until: int = 0
    """When the window ends, or when everything will have been refilled."""

    def room(self, limit: Limit, now: int) -> int:
        """Return how many units are left."""
        if limit.spacing:
            owed = max(0, self.until - now)
            return max(0, (limit.most * limit.spacing - owed) // limit.spacing)
        return limit.most if now >= self.until else max(0, limit.most - self.used)

    def wait(self, limit: Limit, amount: int, now: int) -> int:
        """Return the microseconds after which `amount` units fit; 0 if they fit now."""
        if limit.spacing:
            full = max(self.until, now) + amount * limit.spacing
            return max(0, full - now - limit.most * limit.spacing)
        return 0 if amount <= self.room(limit, now) else self.until - now

    def take(self, limit: Limit, amount: int, now: int) -> None:
        """Use `amount` units. The caller has checked that they fit."""
        if limit.spacing:
            self.until = max(self.until, now) + amount * limit.spacing
            return
        if now >= self.until:
            self.used, self.until = 0, now + limit.seconds * MICROSECONDS
        self.used += amount

    def set(self, limit: Limit, room: int, reset: int, now: int) -> None:
        """Take over what other processes and this one have used together."""
        self.used = 0 if limit.spacing else limit.most - room
        self.until = now + reset


@dataclass(slots=True)
class Counts:
    """What one name in the keys file has used. A reload of the file keeps it."""

    of: dict[str, Count] = field(default_factory=dict)
    """By the name of the limit."""

    def count(self, limit: Limit) -> Count:
        """Return the count of a limit."""
        return self.of.setdefault(limit.name, Count())

    def take(self, limits: Sequence[Limit], amounts: Amounts, now: int) -> tuple[Limit, int] | None:
        """Use the amounts, all or none.

        Returns:
            None if they fit; else the limit that has to be waited for the longest, and its wait in
            microseconds.
        """
        waits = [
            (self.count(limit).wait(limit, amounts[limit.unit], now), limit)
            for limit in limits
            if limit.unit in amounts
        ]
        longest = max(waits, key=lambda each: each[0], default=None)
        if longest is not None and longest[0]:
            return longest[1], longest[0]
        for _, limit in waits:
            self.count(limit).take(limit, amounts[limit.unit], now)
        return None

    def standing(self, limit: Limit, now: int) -> Standing:
        """Return what is left of a limit."""
        count = self.count(limit)
        return Standing(limit, count.room(limit, now), max(0, count.until - now))
