"""How fast a queue empties, and so when to come back to a full one."""

from service.batching.preprocess_queue import PreprocessQueue

_FIRST_RETRY_AFTER = 1.0
"""Seconds to suggest before anything has told the rate."""

_OLD, _NEW = 0.9, 0.1
"""Shares of what was known and of what was just measured."""


class DrainRate:
    """Seconds per item, as a moving average."""

    def __init__(self) -> None:
        self._seconds_per_item: float | None = None

    def note(self, seconds_per_item: float) -> None:
        """Take a measurement in."""
        known = self._seconds_per_item
        self._seconds_per_item = (
            seconds_per_item if known is None else _OLD * known + _NEW * seconds_per_item
        )

    def retry_after(self, pending: int, incoming: PreprocessQueue | None, at_once: int) -> float:
        """Return the seconds in which so many items, `at_once` at a time, will be worked off."""
        if self._seconds_per_item is None:
            return _FIRST_RETRY_AFTER
        before = incoming.seconds_left if incoming else 0.0
        return before + pending * self._seconds_per_item / at_once
