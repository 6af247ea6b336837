"""The supervisor's ends of the connections that workers have, for other workers if one ends."""

import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.processes.connections import SLOT_BYTES
from service.processes.records import NO_SLOT, Fate, Record, Records

_ENOUGH_ALONE, _ENOUGH = 2, 3
"""Suspicions of a request that is refused: if the last was of it alone, and if not."""
_VMSTAT = Path("/proc/vmstat")

_WAITS = -1
"""In place of the number of a worker."""


@dataclass(eq=False, slots=True)
class Kept:
    """A connection that was handed over, and can be again."""

    slot: int
    connection: socket.socket
    listener: int
    record: Record
    worker: int = _WAITS


class Keeper:
    """Keeps a descriptor of each connection until its worker has closed it.

    When a worker ends, its connections wait for another one, which tries their requests again. A
    request is suspected if the worker has crashed, or if it was the worker's only one. One that is
    suspected twice waits until no other such request is in progress; if its worker ends again, or
    if it was alone the second time, it will be refused.
    """

    def __init__(self, records: Records | None, most_descriptors: int) -> None:
        """Make a keeper of nothing.

        Args:
            records: what workers write down; None keeps no connection.
            most_descriptors: the first file descriptor that is not for connections.
        """
        self._records, self._most_descriptors = records, most_descriptors
        self._kept: dict[int, Kept] = {}
        self._free = list(range(records.slots if records else 0))[::-1]
        self._waiting: deque[Kept] = deque()
        self._on_trial: Kept | None = None
        self._rest: dict[socket.socket, bytes] = {}
        self._memory_kills = _MemoryKills()
        self._retried = self._lost = 0

    @property
    def has_waiting(self) -> bool:
        """Tell whether connections wait for a worker."""
        return bool(self._waiting)

    def keep(self, connection: socket.socket, listener: int) -> Kept | None:
        """Keep an accepted connection, if there is room."""
        if self._records is None or not self._free:
            return None
        if connection.fileno() >= self._most_descriptors:
            return None
        slot = self._free.pop()
        kept = Kept(slot, connection, listener, self._records.record(slot))
        self._kept[slot] = kept
        return kept

    def close(self, kept: Kept) -> None:
        """Keep a connection no longer."""
        del self._kept[kept.slot]
        self._free.append(kept.slot)
        if self._on_trial is kept:
            self._on_trial = None
        kept.record.clear()
        kept.connection.close()

    def read_closed(self, handover: socket.socket) -> None:
        """Read which connections a worker has closed. Raises OSError."""
        data = self._rest.pop(handover, b"") + handover.recv(2**16)
        end = len(data) - len(data) % SLOT_BYTES
        for start in range(0, end, SLOT_BYTES):
            kept = self._kept.get(int.from_bytes(data[start : start + SLOT_BYTES]))
            if kept is not None:
                self.close(kept)
        if data[end:]:
            self._rest[handover] = data[end:]

    def forget(self, handover: socket.socket) -> None:
        """Forget a socket that is about to be closed."""
        self._rest.pop(handover, None)

    def counts(self) -> Mapping[str, int]:
        """Return how many requests were tried again, and how many were lost, by metric."""
        return {
            "process_requests_retried": self._retried,
            "process_requests_lost": self._lost,
        }

    def recover(self, worker: int, *, was_killed: bool) -> None:
        """Take back the connections of a worker that has ended.

        Args:
            worker: its number.
            was_killed: whether SIGKILL ended it, and not the supervisor's; it is no fault of a
                request, unless the system sent it because memory had run out.
        """
        has_crashed = self._memory_kills.look() or not was_killed
        mine = [kept for kept in self._kept.values() if kept.worker == worker]
        fates = {kept: kept.record.fate(kept.connection) for kept in mine}
        again = [kept for kept, fate in fates.items() if fate is Fate.AGAIN]
        whole = [kept for kept in again if kept.record.has_whole_request]
        is_alone = len(whole) == 1
        for kept in whole if has_crashed or is_alone else ():
            kept.record.suspect()
            if kept.record.suspicions >= (_ENOUGH_ALONE if is_alone else _ENOUGH):
                kept.record.accuse()
        for kept, fate in fates.items():
            if fate is Fate.LOST:
                self._lost += 1
                self.close(kept)
                continue
            if fate is Fate.AGAIN:
                self._retried += 1
                kept.record.try_again()
            else:
                kept.record.finish()
            self._wait(kept)

    def put_back(self, kept: Kept) -> None:
        """Let a connection wait that could not be handed over."""
        self._wait(kept)

    def next_waiting(self) -> Kept | None:
        """Return the connection that may be handed over now; None if none may."""
        trial = self._on_trial
        if trial is not None and (trial.worker == _WAITS or not trial.record.suspicions):
            self._on_trial = trial = None
        for kept in self._waiting:
            needs_trial = kept.record.suspicions >= _ENOUGH_ALONE and not kept.record.is_guilty
            if not needs_trial or trial is None:
                self._waiting.remove(kept)
                if needs_trial:
                    self._on_trial = kept
                return kept
        return None

    def leave_all(self) -> None:
        """Close this process's descriptors, after a fork, or at the end."""
        for kept in self._kept.values():
            kept.connection.close()

    def _wait(self, kept: Kept) -> None:
        kept.worker = _WAITS
        self._waiting.append(kept)


def slot_of(kept: Kept | None) -> int:
    """Return the slot that is sent to a worker."""
    return NO_SLOT if kept is None else kept.slot


class _MemoryKills:
    """Notices that the system has killed processes because memory had run out."""

    def __init__(self) -> None:
        self._count = _memory_kills()

    def look(self) -> bool:
        """Tell whether there was one since the last look."""
        before, self._count = self._count, _memory_kills()
        return self._count != before


def _memory_kills() -> str:
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("oom_kill ")), "")
