"""When connections begin and continue requests."""

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import TypeAlias

_MOST_TURNS = 4
"""Connections that begin or continue a request before the event loop runs other callbacks."""

_EARLY_SHARE = 0.2
"""Share of the event loop's time for early requests."""

_MOST_EARLY = 8
"""Early requests that begin one after another."""

Act: TypeAlias = Callable[[], None]


class Turns:
    """Lets connections begin and continue requests, a few in each turn of the event loop.

    All at once, 200 clients would delay every other client by the time that 200 requests take, and
    every batch by several times that: it needs a few turns of the loop from end to end.

    A request is early if it comes soon after its connection was refused for too much work. Early
    ones take a fifth of the loop's processor time: clients that retry at once would else take all
    of it, however cheap a refusal is, and batches would wait.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        """Give turns from now on; `clock` measures what early requests cost the event loop."""
        self._clock = clock
        self._waiting: dict[Act, None] = {}
        self._is_due = False
        self._taken = 0
        self._early: dict[Act, None] = {}
        self._is_early_due = False
        self._started = 0.0

    def take(self) -> bool:
        """Return whether a connection may parse a request now; else let it `ask`."""
        if self._waiting or self._taken >= _MOST_TURNS:
            return False
        if not self._taken:
            asyncio.get_running_loop().call_soon(self._begin)
        self._taken += 1
        return True

    def _begin(self) -> None:
        self._taken = 0

    def ask(self, act: Act, is_early: bool = False) -> None:
        """Call `act` after those that asked before; once, however often it was asked for."""
        if is_early:
            self._early[act] = None
            self._give_early_soon(0.0)
        else:
            self._waiting[act] = None
            self._give_soon()

    def _give_soon(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        first = list(islice(self._waiting, _MOST_TURNS))
        for act in first:
            del self._waiting[act]
        self._is_due = False
        self._give_soon()
        for act in first:
            act()

    def _give_early_soon(self, pause: float) -> None:
        if self._early and not self._is_early_due:
            self._is_early_due = True
            asyncio.get_running_loop().call_later(pause, self._give_early)

    def _give_early(self) -> None:
        loop, began = asyncio.get_running_loop(), self._clock()
        first = list(islice(self._early, _MOST_EARLY))
        # The tasks of these requests run next, between the two callbacks, and nothing else does.
        loop.call_soon(self._note_start)
        try:
            for act in first:
                del self._early[act]
                act()
        finally:  # an error must not end the turns of the others
            loop.call_soon(self._note_end, self._clock() - began)

    def _note_start(self) -> None:
        self._started = self._clock()

    def _note_end(self, parsing: float) -> None:
        spent = parsing + self._clock() - self._started
        asyncio.get_running_loop().call_later(spent * (1 / _EARLY_SHARE - 1), self._end_pause)

    def _end_pause(self) -> None:
        self._is_early_due = False
        self._give_early_soon(0.0)
