"""A grammar of hostile request heads: every kind in turn, each time with other details."""

import random
from collections.abc import Iterator

from drills import framing, syntax
from drills.head_case import Case

_MAKERS = (*framing.MAKERS, *syntax.MAKERS)


def cases(draw: random.Random) -> Iterator[Case]:
    """Yield cases without end."""
    while True:
        order = list(_MAKERS)
        draw.shuffle(order)
        for make in order:
            yield make(draw)


def kinds() -> int:
    """Return how many kinds of cases there are."""
    return len(_MAKERS)
