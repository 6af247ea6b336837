"""Items whose preprocessing wants a thread: who waits for one, in which order, and how many."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

from service.errors import DeadlineExceededError, ShuttingDownError, kept

ResultT = TypeVar("ResultT")


ValueT = TypeVar("ValueT")


class Coalescer(Generic[ValueT, ResultT]):
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


_AHEAD = 1
"""Items handed to the threads beyond their number, so that none waits for the event loop."""


@dataclass(eq=False, slots=True)
class _Wish:
    function: Callable[[], Any]
    order: tuple[int, int]
    result: "asyncio.Future[Any]"


class PreprocessQueue:
    """The heavy items in front of one queue of a model, on threads that all models share.

    Of equal priority, who came first is first. It hands the threads little more than they can do
    at once, so that a flood at one model does not come before the few items of another. How many
    may wait is for the queue behind to say, which counts these as its own.
    """

    def __init__(self, threads: Executor, thread_count: int) -> None:
        self._threads, self._thread_count = threads, thread_count
        self._waiting: dict[_Wish, None] = {}
        self._running = 0
        self._arrivals = count()
        self._seconds_per_item = 0.0
        self.pending = 0
        """Items that somebody waits for and that are not preprocessed yet."""

    def __repr__(self) -> str:
        return f"<PreprocessQueue {len(self._waiting)} waiting, {self._running} running>"

    @property
    def seconds_left(self) -> float:
        """Return in how many seconds what is pending will be done, by what items took so far."""
        return self.pending * self._seconds_per_item / self._thread_count

    async def run(
        self, function: Callable[[], ResultT], deadline: float | None = None, priority: int = 0
    ) -> ResultT:
        """Return what a function returns on a thread; `deadline` is an absolute loop time.

        Raises:
            DeadlineExceededError: it was not done in time.
            ShuttingDownError: the threads have ended.
            Exception: what the function raised.
        """
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        wish = _Wish(function, (-priority, next(self._arrivals)), result)
        self._waiting[wish] = None
        self.pending += 1
        self._send()
        try:
            async with asyncio.timeout_at(deadline):
                return await result
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed during preprocessing") from None
        finally:
            self._waiting.pop(wish, None)
            self.pending -= 1
            del result, wish  # a future that failed would keep this frame, and the frame it

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._running < self._thread_count + _AHEAD:
            wish = min(self._waiting, key=lambda wish: wish.order)
            del self._waiting[wish]
            if wish.result.done():  # its caller is leaving
                continue
            try:
                run = loop.run_in_executor(self._threads, _timed, wish.function)
            except RuntimeError:  # its way to say that it was shut down
                wish.result.set_exception(ShuttingDownError("the process is stopping"))
                continue
            self._running += 1
            run.add_done_callback(partial(self._finish, wish))

    def _finish(self, wish: _Wish, run: "asyncio.Future[tuple[Any, float]]") -> None:
        self._running -= 1
        error = ShuttingDownError("the process is stopping") if run.cancelled() else run.exception()
        if error is None:
            result, seconds = run.result()
            known = self._seconds_per_item
            self._seconds_per_item = 0.9 * known + 0.1 * seconds if known else seconds
        if wish.result.done():  # its caller has left
            pass
        elif error is None:
            wish.result.set_result(result)
        else:
            wish.result.set_exception(error)
        self._send()


def _timed(function: Callable[[], ResultT]) -> tuple[ResultT, float]:
    started = time.perf_counter()
    return function(), time.perf_counter() - started
