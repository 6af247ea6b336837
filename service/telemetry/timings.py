"""Where the time of a request goes."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Timings:
    """Where an item's time went, in seconds."""

    cache: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    postprocess: float = 0.0


def longest(timings: Sequence[Timings]) -> Timings:
    """Return the longest of each step, of items that ran at the same time."""
    if len(timings) == 1:
        return timings[0]
    found = Timings()
    for each in timings:
        for step in Timings.__slots__:
            setattr(found, step, max(getattr(found, step), getattr(each, step)))
    return found
