"""What the processes count in memory that they share: one writer for each number."""

import mmap

_HEARTBEAT, _RECEIVED, _CLOSED = range(3)
_NUMBERS = 3
_WORD = 8


class Board:
    """Numbers of every worker, in pages that a fork shares. Workers write their own row only."""

    def __init__(self, workers: int) -> None:
        """Make a board of zeros, before the fork."""
        pages = mmap.mmap(-1, _WORD * (1 + _NUMBERS * workers))
        self._numbers = memoryview(pages).cast("Q")

    @property
    def is_complete(self) -> bool:
        """Tell whether every worker has once tried to load its models; the supervisor sets it."""
        return bool(self._numbers[0])

    @is_complete.setter
    def is_complete(self, value: bool) -> None:
        self._numbers[0] = value

    def clear(self, worker: int) -> None:
        """Set the row of a worker to zero, before it is started."""
        for column in range(_NUMBERS):
            self._numbers[self._place(worker, column)] = 0

    def beat(self, worker: int) -> None:
        """Note that the event loop of a worker runs."""
        self._add(worker, _HEARTBEAT)

    def receive(self, worker: int) -> None:
        """Note that a worker has received a connection."""
        self._add(worker, _RECEIVED)

    def close(self, worker: int) -> None:
        """Note that a worker has closed a connection."""
        self._add(worker, _CLOSED)

    def heartbeat(self, worker: int) -> int:
        """Return how often the event loop of a worker was seen to run."""
        return self._numbers[self._place(worker, _HEARTBEAT)]

    def received(self, worker: int) -> int:
        """Return how many connections a worker has received."""
        return self._numbers[self._place(worker, _RECEIVED)]

    def closed(self, worker: int) -> int:
        """Return how many of them are closed."""
        return self._numbers[self._place(worker, _CLOSED)]

    def _add(self, worker: int, column: int) -> None:
        self._numbers[self._place(worker, column)] += 1

    def _place(self, worker: int, column: int) -> int:
        return 1 + worker * _NUMBERS + column
