"""Preprocessing on threads: of slow items one by one, of fast ones that arrive together."""

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
    """Calls a function once with all values that arrive in one iteration of the event loop.

    Under load many requests arrive in one iteration. Work that takes microseconds, such as
    tokenizing, is too short for a thread; for all of them together a thread pays, and keeps the
    event loop free. A single value is processed at once, on the event loop.
    """

    def __init__(
        self,
        function: Callable[[Sequence[ValueT]], Sequence[ResultT | Exception]],
        threads: Executor,
    ) -> None:
        """Take a function that returns a result or an exception for each value, in order."""
        self._function, self._threads = function, threads
        self._values: list[ValueT] = []
        self._results: list[asyncio.Future[ResultT]] = []

    def __repr__(self) -> str:
        return f"<Coalescer {len(self._values)} waiting>"

    def run(self, value: ValueT) -> Awaitable[ResultT]:
        """Return the function's result for this value, or raise its exception."""
        # Not a coroutine: its frame would keep the future, which may hold an exception, which
        # would keep the frame.
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
    except Exception as error:  # a bug must not leave callers waiting
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


# Items given to the threads beyond their number, so that no thread waits for the event loop.
_AHEAD = 1


@dataclass(eq=False, slots=True)
class _Job:
    function: Callable[[], Any]
    order: tuple[int, int]
    result: "asyncio.Future[Any]"


class PreprocessQueue:
    """Slow items in front of one engine, on threads that all models share.

    Items run in order of priority, then of arrival. The threads get little more than they can
    run at once, so that many items of one model do not delay the few of another. The engine
    behind limits how many may wait, and counts these as its own.
    """

    def __init__(self, threads: Executor, thread_count: int) -> None:
        self._threads, self._thread_count = threads, thread_count
        self._waiting: dict[_Job, None] = {}
        self._running = 0
        self._arrivals = count()
        self._seconds_per_item = 0.0
        self.pending = 0
        """Items that are not preprocessed yet and whose caller still waits."""

    def __repr__(self) -> str:
        return f"<PreprocessQueue {len(self._waiting)} waiting, {self._running} running>"

    @property
    def seconds_left(self) -> float:
        """Return the expected seconds until all pending items are preprocessed."""
        return self.pending * self._seconds_per_item / self._thread_count

    async def run(
        self, function: Callable[[], ResultT], deadline: float | None = None, priority: int = 0
    ) -> ResultT:
        """Call a function on a thread and return its result.

        `deadline` is a time of the event loop's clock.

        Raises:
            DeadlineExceededError: the result did not come in time.
            ShuttingDownError: the threads have ended.
            Exception: the function raised it.
        """
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        job = _Job(function, (-priority, next(self._arrivals)), result)
        self._waiting[job] = None
        self.pending += 1
        self._send()
        try:
            async with asyncio.timeout_at(deadline):
                return await result
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed during preprocessing") from None
        finally:
            self._waiting.pop(job, None)
            self.pending -= 1
            del result, job  # a failed future would keep this frame, and the frame the future

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._running < self._thread_count + _AHEAD:
            job = min(self._waiting, key=lambda job: job.order)
            del self._waiting[job]
            if job.result.done():  # its caller has left
                continue
            try:
                run = loop.run_in_executor(self._threads, _timed, job.function)
            except RuntimeError:  # the executor was shut down
                job.result.set_exception(ShuttingDownError("the process is stopping"))
                continue
            self._running += 1
            run.add_done_callback(partial(self._finish, job))

    def _finish(self, job: _Job, run: "asyncio.Future[tuple[Any, float]]") -> None:
        self._running -= 1
        error = ShuttingDownError("the process is stopping") if run.cancelled() else run.exception()
        if error is None:
            result, seconds = run.result()
            known = self._seconds_per_item
            self._seconds_per_item = 0.9 * known + 0.1 * seconds if known else seconds
        if job.result.done():  # its caller has left
            pass
        elif error is None:
            job.result.set_result(result)
        else:
            job.result.set_exception(error)
        self._send()


def _timed(function: Callable[[], ResultT]) -> tuple[ResultT, float]:
    started = time.perf_counter()
    return function(), time.perf_counter() - started
