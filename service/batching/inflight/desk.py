"""Where the event loop and the device's threads meet: who waits, and who is where."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from service.batching.inflight.policy import Candidate, Room, admit, fair_share
from service.batching.inflight.rows import Rows
from service.batching.measures import Done
from service.errors import ServiceError, kept
from service.stopping import StopSignal
from service.types import Tensors, Work

Watch = Callable[[Tensors], None]


@dataclass(eq=False, slots=True)
class Entry:
    """A work and what became of it. Its future belongs to the event loop."""

    work: Work
    seen: Candidate
    deadline: float
    queued_at: float
    result: "asyncio.Future[Done]"
    watch: Watch | None = None
    """Called on the event loop with what is there after each step."""
    joined_at: float = 0.0
    is_new: bool = True
    """No step was made with it yet."""

    @property
    def has_left(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.result.done()

    def succeed(self, done: Done) -> None:
        """Hand over the result, if somebody is there to take it."""
        if not self.result.done():
            self.result.set_result(done)

    def fail(self, error: ServiceError) -> None:
        """Hand over an error, if somebody is there to take it."""
        if not self.result.done():
            self.result.set_exception(kept(error))
            self.result.exception()  # a caller who is about to leave will not retrieve it


@dataclass(eq=False, slots=True)
class Seat:
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


class Desk:
    """One queue, some seats. Every method holds the lock for as long as it takes to decide."""

    def __init__(self, seats: Sequence[Seat], most_rows: int, budget: int) -> None:
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

    def take(self, seat: Seat, now: float) -> list[Entry]:
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

    def leave(self, seat: Seat, entries: Sequence[Entry]) -> None:
        """Take works out of a seat."""
        with self._lock:
            seat.running.difference_update(entries)

    def put_back(self, seat: Seat, entries: Sequence[Entry]) -> None:
        """Let works that were in a seat wait again, at the place of their urgency."""
        with self._lock:
            seat.running.difference_update(entries)
            staying = [entry for entry in entries if not entry.has_left]
            self._waiting.update(dict.fromkeys(staying))

    def abandoned(self) -> list[Seat]:
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

    def is_alone(self, seat: Seat) -> bool:
        """Tell whether nobody waits, and nobody runs in another seat."""
        return not self._waiting and not any(
            other.running for other in self.seats if other is not seat
        )
