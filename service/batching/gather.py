"""Brings together what comes in one turn of the event loop, for one thread to do in one go."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from service.errors import kept

ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")


class Gatherer(Generic[ValueT, ResultT]):
    """Calls a function with all values that tasks hand in before the loop's next turn.

    Under load many requests arrive in one turn. Work of some microseconds each, such as
    tokenizing, is not worth a trip to a thread; for all of them together it is, and the event
    loop, which everybody waits for, is spared it. A value that comes alone is worked on at once.
    """

    def __init__(
        self,
        function: Callable[[Sequence[ValueT]], Sequence[ResultT | Exception]],
        threads: Executor,
    ) -> None:
        """Take a function that returns a result, or what is wrong, for each value in order."""
        self._function, self._threads = function, threads
        self._values: list[ValueT] = []
        self._results: list[asyncio.Future[ResultT]] = []

    def __repr__(self) -> str:
        return f"<Gatherer {len(self._values)} waiting>"

    def run(self, value: ValueT) -> Awaitable[ResultT]:
        """Return the function's result for this value. Raises what it says is wrong with it."""
        # No coroutine: its frame would keep the future, which may hold an exception, which would
        # keep the frame.
        loop = asyncio.get_running_loop()
        result: asyncio.Future[ResultT] = loop.create_future()
        if not self._values:
            loop.call_soon(self._send)
        self._values.append(value)
        self._results.append(result)
        return result

    def _send(self) -> None:
        values, results = self._values, self._results
        self._values, self._results = [], []
        if len(values) == 1:
            _deliver(results, _outcomes(self._function, values))
            return
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(_deliver, results, _outcomes(self._function, values))

        try:
            self._threads.submit(work)
        except RuntimeError as error:  # the threads have been stopped
            _deliver(results, [kept(error)] * len(values))


def _outcomes(
    function: Callable[[Sequence[ValueT]], Sequence[ResultT | Exception]],
    values: Sequence[ValueT],
) -> Sequence[ResultT | Exception]:
    try:
        return function(values)
    except Exception as error:  # a bug must not leave everybody waiting
        return [error] * len(values)


def _deliver(
    results: Sequence["asyncio.Future[ResultT]"], outcomes: Sequence[ResultT | Exception]
) -> None:
    for result, outcome in zip(results, outcomes, strict=True):
        if result.done():  # the caller has left
            continue
        if isinstance(outcome, Exception):
            result.set_exception(outcome)
        else:
            result.set_result(outcome)
