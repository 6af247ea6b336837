"""Shares a busy model between the owners of its items, by weight.

Start-time fair queueing (Goyal, Vin, Chen 1996): every owner has a virtual time, which advances by
the cost of each of its items divided by its weight, and the item whose owner is furthest behind is
next. An owner that was idle starts where the least served of the others is, so it neither saves up
nor owes. Priorities come before shares; among the items of one owner the order stays what it was.
Items have owners only if there is a keys file; without one nothing here runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.engine.policy import Urgency
from service.types import Share

# Owners that are remembered although none of their items waits.
_MOST_REMEMBERED = 1024

_NOBODY = Share("")
"""Owner of the items of the service itself."""


class Owned(Protocol):
    """What fairness reads of a waiting item."""

    @property
    def urgency(self) -> Urgency:
        """Return its place in the queue without fairness."""
        ...

    @property
    def share(self) -> Share | None:
        """Return its owner."""
        ...


class VirtualTime:
    """How much each owner has been served."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._least = 0.0
        """Virtual time of the least served owner that has items. Never goes back."""

    def begins(self, waiting: Iterable[Owned]) -> Mapping[str, float]:
        """Return the virtual time of each owner of the waiting items."""
        names = {(item.share or _NOBODY).name for item in waiting}
        begins = {name: self.begin(name) for name in names}
        self._least = min(begins.values(), default=self._least)
        if len(self._served) > _MOST_REMEMBERED:
            self._served = dict(begins)
        return begins

    def begin(self, name: str) -> float:
        """Return the virtual time at which the next item of an owner begins."""
        return max(self._least, self._served.get(name, 0.0))

    def charge(self, share: Share | None, cost: float) -> None:
        """Advance the time of an owner by the cost of an item that begins to run."""
        owner = share or _NOBODY
        self._served[owner.name] = self.begin(owner.name) + cost / owner.weight


def fair_order(
    urgent_first: Sequence[int],
    waiting: Sequence[Owned],
    costs: Sequence[float],
    begins: Mapping[str, float],
) -> Sequence[int]:
    """Return the indices of the waiting items in the order in which they are to run.

    Args:
        urgent_first: the indices, sorted by urgency.
        waiting: the items.
        costs: of each item, in any unit.
        begins: virtual time of each owner.
    """
    if len(begins) < 2:  # noqa: PLR2004 - one owner has nothing to share
        return urgent_first
    at = dict(begins)
    keys = []
    for place, index in enumerate(urgent_first):
        item = waiting[index]
        owner = item.share or _NOBODY
        begin = at[owner.name]
        at[owner.name] = begin + costs[index] / owner.weight
        keys.append((item.urgency[0], begin, place, index))
    keys.sort()
    return [index for _, _, _, index in keys]


@dataclass(slots=True)
class _Holding:
    weight: float
    count: int = 0


@dataclass(slots=True)
class Holdings:
    """How many items of one lane each owner has in progress. Used on the event loop only."""

    _by_name: dict[str, _Holding] = field(default_factory=dict)
    _total: int = 0

    def enter(self, share: Share) -> None:
        """Count an item."""
        holding = self._by_name.get(share.name)
        if holding is None:
            holding = self._by_name[share.name] = _Holding(share.weight)
        holding.count += 1
        self._total += 1

    def leave(self, share: Share) -> None:
        """Stop counting an item."""
        holding = self._by_name[share.name]
        holding.count -= 1
        self._total -= 1
        if not holding.count:
            del self._by_name[share.name]

    def is_over(self, share: Share) -> bool:
        """Return whether an owner holds all that it may if one more like it were to come."""
        holding = self._by_name.get(share.name)
        if holding is None:
            return False
        return holding.count * (self._weights() + share.weight) >= share.weight * self._total

    def is_light(self, share: Share | None) -> bool:
        """Return whether an owner holds less than half of its share."""
        holding = None if share is None else self._by_name.get(share.name)
        if holding is None:
            return False
        return 2 * holding.count * self._weights() < holding.weight * self._total

    def _weights(self) -> float:
        return sum(holding.weight for holding in self._by_name.values())
