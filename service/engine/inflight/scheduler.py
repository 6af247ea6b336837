"""Where the event loop and the device's threads meet: who waits, and who is where."""

import asyncio
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol, TypeAlias, runtime_checkable

from service.engine.inflight.policy import Candidate, Room, admit, fair_share
from service.engine.queue import ItemResult
from service.errors import ServiceError, kept
from service.runtime.stopping import StopSignal
from service.types import PreparedItem, Sessions, Tensors

Key: TypeAlias = Hashable
"""How a work is called; any, as a mapping takes no narrower key than its type says."""


class Rows(Protocol):
    """The works in progress on one instance. One thread at a time."""

    @property
    def count(self) -> int:
        """Return how many works are in progress."""
        ...

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes."""
        ...

    def begin(self, sessions: Sessions, works: Mapping[Any, PreparedItem]) -> None:
        """Take works in, right before their first step; all, or none and raise ServiceError."""
        ...

    def step(self, sessions: Sessions) -> Mapping[Any, Tensors]:
        """Bring every work one step further; return the results of those who are done by it.

        Raises:
            ServiceError: the step failed. `reset` before anything else.
        """
        ...

    def drop(self, keys: frozenset[Any]) -> None:
        """Forget works; they cost nothing from the next step on."""
        ...

    def reset(self) -> None:
        """Forget all works, and give memory back."""
        ...

    def progress(self, keys: frozenset[Any]) -> Mapping[Any, Tensors]:
        """Return what these works would result in if they ended here."""
        ...


@runtime_checkable
class InFlight(Protocol):
    """What a family has that can be batched in flight."""

    def open_rows(self) -> Rows:
        """Return rows with nobody in them."""
        ...

    def rows_for(self, work: PreparedItem) -> int:
        """Return how many rows a work may come to take."""
        ...


Watch = Callable[[Tensors], None]


@dataclass(eq=False, slots=True)
class Entry:
    """A work and what became of it. Its future belongs to the event loop."""

    work: PreparedItem
    seen: Candidate
    deadline: float
    queued_at: float
    result: "asyncio.Future[ItemResult]"
    watch: Watch | None = None
    """Called on the event loop with what is there after each step."""
    joined_at: float = 0.0
    is_new: bool = True
    """No step was made with it yet."""

    @property
    def has_left(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.result.done()

    def succeed(self, done: ItemResult) -> None:
        """Hand over the result, if somebody is there to take it."""
        if not self.result.done():
            self.result.set_result(done)

    def fail(self, error: ServiceError) -> None:
        """Hand over an error, if somebody is there to take it."""
        if not self.result.done():
            self.result.set_exception(kept(error))
            self.result.exception()  # a caller who is about to leave will not retrieve it


@dataclass(eq=False, slots=True)
class Instance:
    """One instance: its rows, and whose works are in them."""

    rows: Rows
    running: set[Entry] = field(default_factory=set)
    stop: StopSignal | None = None
    """Stops the turn it is in; None between turns."""

    @property
    def used_rows(self) -> int:
        """Return how many rows its works may come to take."""
        return sum(entry.seen.rows for entry in self.running)

    @property
    def holds_suspect(self) -> bool:
        """Tell whether a work is in it that must be alone."""
        return any(entry.seen.is_suspect for entry in self.running)


class Scheduler:
    """One queue, some seats. Every method holds the lock for as long as it takes to decide."""

    def __init__(self, seats: Sequence[Instance], most_rows: int, budget: int) -> None:
        """Make a desk.

        Args:
            seats: the instances.
            most_rows: that a seat may use; a work that wants more is let in alone.
            budget: most cost of reading before a step.
        """
        self.seats = seats
        self.most_rows = most_rows
        self.is_closing = False
        """Turns end after the step they are in."""
        self._budget = budget
        self._waiting: dict[Entry, None] = {}
        self._lock = threading.Lock()

    @property
    def pending(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Return how many are in rows."""
        return sum(len(seat.running) for seat in self.seats)

    @property
    def is_idle(self) -> bool:
        """Tell whether nobody waits and nobody runs."""
        return not self._waiting and not self.running

    def add(self, entry: Entry) -> None:
        """Let somebody wait."""
        with self._lock:
            self._waiting[entry] = None

    def remove(self, entry: Entry) -> None:
        """Take somebody off the queue, if there."""
        with self._lock:
            self._waiting.pop(entry, None)

    def take(self, seat: Instance, now: float) -> list[Entry]:
        """Let those join whose turn it is."""
        if not self._waiting or self.is_closing:
            return []
        with self._lock:
            waiting = [entry for entry in self._waiting if not entry.has_left]
            used = seat.used_rows
            wanted = sum(entry.seen.rows for entry in waiting)
            wanted += sum(other.used_rows for other in self.seats)
            room = Room(
                self.most_rows - used,
                used,
                fair_share(wanted, len(self.seats)),
                self._budget,
                seat.holds_suspect,
            )
            joining = [waiting[index] for index in admit([e.seen for e in waiting], room)]
            for entry in joining:
                del self._waiting[entry]
                entry.joined_at = now
            seat.running.update(joining)
            return joining

    def leave(self, seat: Instance, entries: Sequence[Entry]) -> None:
        """Take works out of a seat."""
        with self._lock:
            seat.running.difference_update(entries)

    def put_back(self, seat: Instance, entries: Sequence[Entry]) -> None:
        """Let works that were in a seat wait again, at the place of their urgency."""
        with self._lock:
            seat.running.difference_update(entries)
            staying = [entry for entry in entries if not entry.has_left]
            self._waiting.update(dict.fromkeys(staying))

    def abandoned(self) -> list[Instance]:
        """Return the seats in a turn for works that nobody waits for any more."""
        with self._lock:
            return [
                seat
                for seat in self.seats
                if seat.stop and seat.running and all(entry.has_left for entry in seat.running)
            ]

    def everybody(self) -> list[Entry]:
        """Return who waits and who runs."""
        with self._lock:
            return [*self._waiting, *(entry for seat in self.seats for entry in seat.running)]

    def next_deadline(self) -> float:
        """Return the earliest deadline of anybody who still waits for an answer."""
        return min((e.deadline for e in self.everybody() if not e.has_left), default=inf)

    def is_alone(self, seat: Instance) -> bool:
        """Tell whether nobody waits, and nobody runs in another seat."""
        return not self._waiting and not any(
            other.running for other in self.seats if other is not seat
        )
