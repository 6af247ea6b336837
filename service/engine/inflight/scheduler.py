"""What the event loop and the device's threads share: waiting items, and who runs where."""

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from service.engine.engine import Watch
from service.engine.fairness import VirtualTime, fair_order
from service.engine.policy import Urgency, by_urgency
from service.engine.queue import Entry
from service.runtime.stopping import StopSignal
from service.types import PreparedItem, Sessions, Share, Tensors

Key: TypeAlias = Hashable
"""Identifies an item in `Rows`."""


class Rows(Protocol):
    """The running items of one instance. Used by one thread at a time."""

    @property
    def count(self) -> int:
        """Return the number of running items."""
        ...

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes."""
        ...

    def prefill(self, sessions: Sessions, items: Mapping[Any, PreparedItem]) -> None:
        """Add items before their first step; all of them, or none and raise ServiceError."""
        ...

    def step(self, sessions: Sessions) -> Mapping[Any, Tensors]:
        """Run one step for every item; return the results of the items that it finished.

        Raises:
            ServiceError: the step failed. Call `reset` before anything else.
        """
        ...

    def drop(self, keys: frozenset[Any]) -> None:
        """Remove items; they cost nothing from the next step on."""
        ...

    def reset(self) -> None:
        """Remove all items, and free memory."""
        ...

    def progress(self, keys: frozenset[Any]) -> Mapping[Any, Tensors]:
        """Return what these items would result in if they ended now."""
        ...


class InFlight(Protocol):
    """What a model needs for in-flight batching."""

    def open_rows(self) -> Rows:
        """Return empty rows."""
        ...

    def rows_for(self, work: PreparedItem) -> int:
        """Return the most rows an item may use."""
        ...


@dataclass(eq=False, slots=True)
class StepEntry(Entry):
    """An item of an in-flight engine. Satisfies `Candidate`."""

    rows: int
    """Most rows it may use."""
    watch: Watch | None = None
    """Called on the event loop with the partial result after each step."""
    is_suspect: bool = False
    joined_at: float = 0.0
    is_new: bool = True
    """Whether it has not been in a step."""


@dataclass(eq=False, slots=True)
class Instance:
    """One instance: its rows, and the items in them."""

    rows: Rows
    running: set[StepEntry] = field(default_factory=set)
    stop: StopSignal | None = None
    """Stops its step loop; None between loops."""

    @property
    def used_rows(self) -> int:
        """Return the most rows its items may use."""
        return sum(entry.rows for entry in self.running)

    @property
    def holds_suspect(self) -> bool:
        """Return whether an item is in it that must run without others."""
        return any(entry.is_suspect for entry in self.running)


class Candidate(Protocol):
    """What decides whether a waiting item joins."""

    @property
    def prepared(self) -> PreparedItem:
        """Return the item; its length is the cost of its prefill."""
        ...

    @property
    def urgency(self) -> Urgency:
        """Return its place in the queue."""
        ...

    @property
    def share(self) -> Share | None:
        """Return its owner."""
        ...

    @property
    def rows(self) -> int:
        """Return the most rows it may use."""
        ...

    @property
    def is_suspect(self) -> bool:
        """Return whether it was in rows whose step failed.

        It then runs without others, so that only the item at fault fails.
        """
        ...


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


def admit(
    waiting: Sequence[Candidate], room: Room, order: Sequence[int] | None = None
) -> list[int]:
    """Return the indices of the items that join before the next step, most urgent first.

    None is overtaken: an item that needs more rows than are free keeps those behind it waiting,
    because otherwise a stream of small items would delay it for ever.

    Args:
        waiting: the items.
        room: what the instance can offer.
        order: the indices of the items, the next to join first; None sorts them by urgency.
    """
    if room.holds_suspect:
        return []
    joining: list[int] = []
    free, used, spent = room.free_rows, room.used_rows, 0
    for index in by_urgency(waiting) if order is None else order:
        candidate = waiting[index]
        if candidate.is_suspect:
            return joining or ([index] if room.used_rows == 0 else [])
        length = candidate.prepared.length
        is_too_expensive = joining and spent + length > room.budget
        is_too_wide = used and candidate.rows > free
        if is_too_wide or is_too_expensive or used >= room.share:
            break
        joining.append(index)
        free, used, spent = free - candidate.rows, used + candidate.rows, spent + length
    return joining


def fair_share(rows_wanted: int, instances: int) -> int:
    """Return how many rows each instance should take when all wanted rows are shared."""
    return max(1, -(-rows_wanted // instances))


class Scheduler:
    """Waiting items and instances. Every method holds the lock only while it decides."""

    def __init__(self, instances: Sequence[Instance], most_rows: int, budget: int) -> None:
        """Make a scheduler without items.

        Args:
            instances: the instances.
            most_rows: rows an instance may use; an item that needs more runs without others.
            budget: most prefill cost before a step.
        """
        self.instances = instances
        self.most_rows = most_rows
        self.is_closing = False
        """Set to end step loops after the step they are in."""
        self._budget = budget
        self._waiting: dict[StepEntry, None] = {}
        self._time: VirtualTime | None = None
        """Shares the engine between owners; None until an item has one."""
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Return how many items wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Return how many items run."""
        return sum(len(instance.running) for instance in self.instances)

    @property
    def is_idle(self) -> bool:
        """Return whether no item waits or runs."""
        return not self._waiting and not self.running

    def add(self, entry: StepEntry) -> None:
        """Add an item to the waiting ones."""
        with self._lock:
            self._waiting[entry] = None
            if entry.share is not None and self._time is None:
                self._time = VirtualTime()

    def remove(self, entry: StepEntry) -> bool:
        """Remove an item if it waits; return whether it did."""
        with self._lock:
            if entry not in self._waiting:
                return False
            del self._waiting[entry]
            return True

    def take(self, instance: Instance, now: float) -> list[StepEntry]:
        """Move the waiting items that may join an instance into it, and return them."""
        if not self._waiting or self.is_closing:
            return []
        with self._lock:
            waiting = [entry for entry in self._waiting if not entry.has_left]
            used = instance.used_rows
            wanted = sum(entry.rows for entry in waiting)
            wanted += sum(other.used_rows for other in self.instances)
            room = Room(
                self.most_rows - used,
                used,
                fair_share(wanted, len(self.instances)),
                self._budget,
                instance.holds_suspect,
            )
            joining = [waiting[index] for index in self._admit(waiting, room)]
            for entry in joining:
                del self._waiting[entry]
                entry.joined_at = now
            instance.running.update(joining)
            return joining

    def _admit(self, waiting: Sequence[StepEntry], room: Room) -> list[int]:
        if (time := self._time) is None:
            return admit(waiting, room)
        costs = [entry.rows * entry.prepared.length for entry in waiting]
        order = fair_order(by_urgency(waiting), waiting, costs, time.begins(waiting))
        joining = admit(waiting, room, order)
        for index in joining:
            time.charge(waiting[index].share, costs[index])
        return joining

    def leave(self, instance: Instance, entries: Sequence[StepEntry]) -> None:
        """Remove items from an instance."""
        with self._lock:
            instance.running.difference_update(entries)

    def put_back(self, instance: Instance, entries: Sequence[StepEntry]) -> None:
        """Move items from an instance back to the waiting ones, except those that have left."""
        with self._lock:
            instance.running.difference_update(entries)
            staying = [entry for entry in entries if not entry.has_left]
            self._waiting.update(dict.fromkeys(staying))

    def abandoned(self) -> list[Instance]:
        """Return the instances in a step loop whose callers have all left."""
        with self._lock:
            return [
                instance
                for instance in self.instances
                if instance.stop
                and instance.running
                and all(entry.has_left for entry in instance.running)
            ]

    def lengths(self) -> list[int]:
        """Return the lengths of the waiting items."""
        return [entry.prepared.length for entry in list(self._waiting)]

    def entries(self) -> list[StepEntry]:
        """Return all items, waiting and running."""
        with self._lock:
            return [*self._waiting, *(entry for each in self.instances for entry in each.running)]

    def is_exclusive(self, instance: Instance) -> bool:
        """Return whether no item waits, and no other instance runs one."""
        return not self._waiting and not any(
            other.running for other in self.instances if other is not instance
        )
