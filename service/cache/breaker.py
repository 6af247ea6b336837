"""When to leave a faulty server alone. A state machine: it knows no sockets and no event loop."""

from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """What a breaker thinks of its server."""

    CLOSED = "closed"
    """The server works: use it."""
    OPEN = "open"
    """It does not: leave it alone until the cool-down is over."""
    HALF_OPEN = "half_open"
    """One try is out to see whether it works again."""


class Breaker:
    """Opens after some faults in a row; tries again once per cool-down.

    closed --max_faults in a row--> open --cool-down over, first try--> half open
    half open --success--> closed;  half open --fault--> open
    """

    def __init__(self, max_faults: int, cool_down: float, clock: Callable[[], float]) -> None:
        """Make a closed breaker.

        Args:
            max_faults: faults in a row, with no success between them, that open it.
            cool_down: seconds from opening to the next try.
            clock: seconds that never go back.

        Raises:
            ValueError: an argument is not positive.
        """
        if max_faults <= 0 or cool_down <= 0:
            raise ValueError("max_faults and cool_down must be positive")
        self._max_faults, self._cool_down, self._clock = max_faults, cool_down, clock
        self._state = BreakerState.CLOSED
        self._faults = 0
        self._retry_at = 0.0

    @property
    def state(self) -> BreakerState:
        """Return what it thinks of the server."""
        return self._state

    def ask(self) -> float:
        """Ask for leave to try; return the seconds to wait and ask again, 0.0 for leave now.

        Leave from an open breaker is given to one asker per cool-down, and makes it half open.
        An asker who never reports back holds up the others for one more cool-down, no longer.
        """
        if self._state is BreakerState.CLOSED:
            return 0.0
        now = self._clock()
        if now < self._retry_at:
            return self._retry_at - now
        self._state = BreakerState.HALF_OPEN
        self._retry_at = now + self._cool_down
        return 0.0

    def succeeded(self) -> None:
        """Note that the server answered."""
        self._faults = 0
        self._state = BreakerState.CLOSED

    def failed(self) -> None:
        """Note a fault. What fails late, after the breaker opened, does not prolong its wait."""
        self._faults += 1
        if self._state is BreakerState.OPEN:
            return
        if self._state is BreakerState.HALF_OPEN or self._faults >= self._max_faults:
            self._state = BreakerState.OPEN
            self._retry_at = self._clock() + self._cool_down

    def __repr__(self) -> str:
        return f"<Breaker {self._state}, {self._faults} faults in a row>"
