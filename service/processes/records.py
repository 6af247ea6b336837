"""Requests that workers have yet to answer, in memory that outlives the worker which has them."""

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import termios
import time
from dataclasses import dataclass
from enum import Enum, auto

NO_SLOT = 2**32 - 1
"""In place of the slot of a connection that is not recorded."""

SLOTS = 2**14
"""Connections that are recorded at the same time."""

MOST_BYTES = 20 * 2**20
"""Of a request that is recorded: the default limit of a body, in chunks, with its head."""

_RECEIVED, _EARLIER, _SENT, _SINCE, _SUSPICIONS, _STATE, _READ = range(7)
_WORDS = 7
_WORD = 8

_BODY_HAS_ENDED, _RESPONSE_HAS_ENDED = 1, 2

_NOT_RECORDED = 2**64 - 1
"""As the number of received bytes: a request that cannot be tried again."""

_GUILTY = 255
"""As the number of suspicions."""

_REACH = 2**32
"""Bytes of the file from one slot to the next; what was never written takes no memory."""

_KEPT_BYTES = 64 * 1024
"""Memory that a slot keeps between requests."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Flags of Linux's fallocate."""

_COUNTS, _COUNTS_AT = struct.Struct("=QQ"), 120
"""Of Linux's `struct tcp_info`: tcpi_bytes_acked and tcpi_bytes_received."""

_INTERIM = b"HTTP/1.1 100"


class Fate(Enum):
    """What to do with a connection whose worker has ended."""

    MOVE = auto()
    """It has no unanswered request: another worker goes on."""
    AGAIN = auto()
    """Another worker gets its request, of whose answer nothing was sent."""
    LOST = auto()
    """A part of an answer was sent, or the request is not recorded, or not all of it."""


@dataclass(slots=True)
class Room:
    """Bytes of long requests that one worker may still record."""

    left: int


class Records:
    """A slot for each connection: the bytes of its request, and how far its answer is.

    Made before the fork. A worker writes the slots of its connections; the supervisor reads them
    once the worker has ended.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        """Make empty slots. Needs Linux."""
        self.slots = slots
        self._numbers = memoryview(mmap.mmap(-1, _WORD * _WORDS * slots)).cast("Q")
        self._file = os.memfd_create("requests")

    @staticmethod
    def are_possible() -> bool:
        """Tell whether the system can record requests."""
        return sys.platform == "linux"

    def record(self, slot: int, room: Room | None = None) -> "Record":
        """Return the record of a slot, for its worker or for the supervisor."""
        first = slot * _WORDS
        words = self._numbers[first : first + _WORDS]
        return Record(words, self._file, slot * _REACH, room or Room(0))


class Record:
    """What one connection has received and sent since it was last idle."""

    __slots__ = ("_file", "_offset", "_room", "_taken", "_words")

    def __init__(self, words: memoryview, file: int, offset: int, room: Room) -> None:
        self._words, self._file, self._offset, self._room = words, file, offset, room
        self._taken = 0

    @property
    def suspicions(self) -> int:
        """Return how many workers have ended for which the request may be the reason."""
        return self._words[_SUSPICIONS]

    @property
    def is_guilty(self) -> bool:
        """Tell whether the request is taken to be what ended them."""
        return self._words[_SUSPICIONS] == _GUILTY

    @property
    def has_whole_request(self) -> bool:
        """Tell whether a request was received to its end."""
        return bool(self._words[_STATE] & _BODY_HAS_ENDED)

    @property
    def age(self) -> float:
        """Return the seconds since the first byte of the request was received."""
        return (time.monotonic_ns() - self._words[_SINCE]) / 1e9

    def clear(self) -> None:
        """Forget the connection."""
        self._release()
        for word in range(_WORDS):
            self._words[word] = 0

    def receive(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self._keep(data)
        self._words[_READ] += len(data)

    def _keep(self, data: bytes) -> None:
        words = self._words
        if (before := words[_RECEIVED]) == _NOT_RECORDED:
            return
        if not before:
            words[_SINCE] = time.monotonic_ns()
        size = before + len(data)
        if size > _KEPT_BYTES and not self._finds_room(size):
            self.give_up()
            return
        try:
            os.pwrite(self._file, data, self._offset + before)
        except OSError:  # there is no memory
            self.give_up()
            return
        words[_RECEIVED] = size

    def read(self) -> bytes:
        """Return the bytes of the request; none if there is none."""
        size = self._words[_RECEIVED]
        if size > _KEPT_BYTES:
            self._taken, self._room.left = size, self._room.left - size
        return os.pread(self._file, size, self._offset)

    def end_body(self) -> None:
        """Note that the request was received to its end."""
        self._words[_STATE] |= _BODY_HAS_ENDED

    def send(self, data: bytes | bytearray | memoryview, is_last: bool) -> None:
        """Note bytes that are about to be written.

        Args:
            data: the bytes.
            is_last: whether they end the answer to the only request.
        """
        words = self._words
        words[_SENT] += len(data)
        if is_last:
            words[_STATE] |= _RESPONSE_HAS_ENDED
        elif data[: len(_INTERIM)] == _INTERIM:  # the next try may send it again
            words[_EARLIER] = words[_SENT]

    def finish(self) -> None:
        """Note that every request is answered."""
        words = self._words
        self._release()
        words[_RECEIVED] = words[_SUSPICIONS] = words[_STATE] = 0
        words[_EARLIER] = words[_SENT]

    def give_up(self) -> None:
        """Record nothing more until `finish`."""
        self._release()
        self._words[_RECEIVED] = _NOT_RECORDED

    def fate(self, connection: socket.socket) -> Fate:
        """Return what to do with the connection of a worker that has ended."""
        words = self._words
        received, sent = words[_RECEIVED], words[_SENT]
        written, read = _counts(connection)
        if read is not None and read > words[_READ] + 1:  # the end counts as a byte
            return Fate.LOST  # what was read and not recorded is gone
        if not received:
            return Fate.LOST if written not in (None, sent) else Fate.MOVE
        if received != _NOT_RECORDED and words[_EARLIER] == (sent if written is None else written):
            return Fate.AGAIN
        if written == sent and words[_STATE] & _RESPONSE_HAS_ENDED:
            return Fate.MOVE
        return Fate.LOST

    def try_again(self) -> None:
        """Let the next worker receive the request again."""
        words = self._words
        words[_SENT] = words[_EARLIER]
        words[_STATE] = 0

    def suspect(self) -> None:
        """Note that the request may be the reason why a worker has ended."""
        self._words[_SUSPICIONS] += 1

    def accuse(self) -> None:
        """Let the next worker refuse the request."""
        self._words[_SUSPICIONS] = _GUILTY

    def _finds_room(self, size: int) -> bool:
        more = size - self._taken
        if size > MOST_BYTES or more > self._room.left:
            return False
        self._taken, self._room.left = size, self._room.left - more
        return True

    def _release(self) -> None:
        self._room.left += self._taken
        self._taken = 0
        if _KEPT_BYTES < self._words[_RECEIVED] < _NOT_RECORDED:
            _free(self._file, self._offset + _KEPT_BYTES, MOST_BYTES)


def _counts(connection: socket.socket) -> tuple[int, int] | tuple[None, None]:
    """Return how many bytes the system has accepted for a connection, and how many were read.

    None unless it is TCP.
    """
    if connection.family == socket.AF_UNIX:
        return None, None
    size = _COUNTS_AT + _COUNTS.size
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    acknowledged, received = _COUNTS.unpack_from(info, _COUNTS_AT)
    written = acknowledged + _waiting(connection, termios.TIOCOUTQ)
    return written, received - _waiting(connection, termios.FIONREAD)


def _waiting(connection: socket.socket, direction: int) -> int:
    """Return the bytes that are not acknowledged (TIOCOUTQ), or not read (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(connection, direction, b"\0" * 4), sys.byteorder)


def _free(file: int, start: int, size: int) -> None:
    """Return memory of a file to the system."""
    fallocate = ctypes.CDLL(None).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, start, size)
