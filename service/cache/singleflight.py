"""Identical work that is asked for at the same time is done once.

Who asks first for a key leads: it computes in its own task. Who asks while it computes follows:
it waits for the leader's answer, with its own deadline. A leader that stops for a reason of its
own (it was cancelled, its deadline passed, its version of the model was closed) hands over to a
follower, who then computes itself.
Every other failure, overload too, would meet the followers as well, and reaches them at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from service.errors import DeadlineExceededError, ModelNotReadyError, ShuttingDownError, renewed

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Computed(Generic[ValueT]):
    value: ValueT


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


_Landing: TypeAlias = _Computed[ValueT] | _Failed | None
"""What a follower is told. None: the leader has left, lead yourself."""

_Flight: TypeAlias = deque[asyncio.Future[_Landing[ValueT]]]
"""The followers of one key, in the order they came."""


class SingleFlight(Generic[ValueT]):
    """Shares one computation between identical requests. Alone, it costs no task or future."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[ValueT]] = {}

    async def run(
        self, key: str, compute: Callable[[], Awaitable[ValueT]], deadline: float | None
    ) -> tuple[ValueT, bool]:
        """Return the value, and whether somebody else computed it.

        Args:
            key: what makes work identical.
            compute: does the work; called at most once, and only if this caller leads. It keeps
                this caller's deadline itself.
            deadline: absolute loop time until which a follower waits.

        Raises:
            DeadlineExceededError: this caller's deadline passed.
            Exception: what `compute` raised; the leader's error reaches its followers too,
                as an instance for each.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = deque()
        else:
            landing = await self._follow(key, flight, deadline)
            if landing is not None:
                return _taken(landing), True
        return await self._lead(key, flight, compute), False

    def __repr__(self) -> str:
        waiting = sum(map(len, self._flights.values()))
        return f"<SingleFlight {len(self._flights)} running, {waiting} waiting>"

    async def _lead(
        self, key: str, flight: _Flight[ValueT], compute: Callable[[], Awaitable[ValueT]]
    ) -> ValueT:
        try:
            value = await compute()
        except (DeadlineExceededError, ModelNotReadyError, ShuttingDownError):
            self._hand_over(key, flight)
            raise
        except Exception as error:
            self._land(key, flight, _Failed(error))
            raise
        except BaseException:  # cancelled: this caller has gone, its followers have not
            self._hand_over(key, flight)
            raise
        self._land(key, flight, _Computed(value))
        return value

    async def _follow(
        self, key: str, flight: _Flight[ValueT], deadline: float | None
    ) -> _Landing[ValueT]:
        told: asyncio.Future[_Landing[ValueT]] = asyncio.get_running_loop().create_future()
        flight.append(told)
        try:
            async with asyncio.timeout_at(deadline):
                return await told
        except BaseException as error:
            self._leave(key, flight, told)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    "the deadline passed while an identical request was computed"
                ) from None
            raise

    def _leave(
        self, key: str, flight: _Flight[ValueT], told: asyncio.Future[_Landing[ValueT]]
    ) -> None:
        if told.cancelled():
            with suppress(ValueError):  # handing over may have dropped it already
                flight.remove(told)
        elif told.done() and told.result() is None:  # was made leader in the very moment of leaving
            self._hand_over(key, flight)

    def _land(self, key: str, flight: _Flight[ValueT], landing: _Landing[ValueT]) -> None:
        del self._flights[key]
        while flight:  # emptied, for an error in the landing refers to the leader, which has it
            told = flight.popleft()
            if not told.done():
                told.set_result(landing)

    def _hand_over(self, key: str, flight: _Flight[ValueT]) -> None:
        while flight:
            told = flight.popleft()
            if not told.done():
                told.set_result(None)
                return
        del self._flights[key]


def _taken(landing: _Computed[ValueT] | _Failed) -> ValueT:
    if isinstance(landing, _Failed):
        raise renewed(landing.error) from landing.error
    return landing.value
