"""Preprocessing of slow items, on threads that all models share."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeVar

from service.engine.fairness import Holdings, VirtualTime
from service.engine.policy import Urgency
from service.errors import DeadlineExceededError, ShuttingDownError
from service.types import Share

ResultT = TypeVar("ResultT")


# Items given to the threads beyond their number, so that no thread waits for the event loop.
_AHEAD = 1


@dataclass(eq=False, slots=True)
class _Job:
    function: Callable[[], Any]
    urgency: Urgency
    """Here without the deadline, and with the number of the arrival in place of its time."""
    result: "asyncio.Future[Any]"
    share: Share | None


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
        self._time = VirtualTime()
        self.holdings = Holdings()
        """What each owner has in progress here and in the engine behind."""
        self.pending = 0
        """Items that are not preprocessed yet and whose caller still waits."""

    def __repr__(self) -> str:
        return f"<PreprocessQueue {len(self._waiting)} waiting, {self._running} running>"

    @property
    def seconds_left(self) -> float:
        """Return the expected seconds until all pending items are preprocessed."""
        return self.pending * self._seconds_per_item / self._thread_count

    async def run(
        self,
        function: Callable[[], ResultT],
        deadline: float | None = None,
        priority: int = 0,
        share: Share | None = None,
    ) -> ResultT:
        """Call a function on a thread and return its result.

        Args:
            function: preprocesses an item.
            deadline: a time of the event loop's clock.
            priority: items of higher priority run first.
            share: the owner of the item; of equal priority, the one served least runs first.

        Raises:
            DeadlineExceededError: the result did not come in time.
            ShuttingDownError: the threads have ended.
            Exception: the function raised it.
        """
        result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        job = _Job(function, (-priority, 0.0, next(self._arrivals)), result, share)
        self._waiting[job] = None
        if share is not None:
            self.holdings.enter(share)
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
            if share is not None:
                self.holdings.leave(share)
            del result, job  # a failed future would keep this frame, and the frame the future

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._running < self._thread_count + _AHEAD:
            job = self._next()
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

    def _next(self) -> _Job:
        first = min(self._waiting, key=_urgency)
        if first.share is None:
            return first
        begins = self._time.begins(self._waiting)
        if len(begins) > 1:
            # Of the items of one owner the most urgent, of the owners the one served least.
            first = min(
                self._waiting,
                key=lambda job: (
                    job.urgency[0],
                    self._time.begin("" if job.share is None else job.share.name),
                    job.urgency,
                ),
            )
        self._time.charge(first.share, 1.0)
        return first

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


def _urgency(job: _Job) -> Urgency:
    return job.urgency


def _timed(function: Callable[[], ResultT]) -> tuple[ResultT, float]:
    started = time.perf_counter()
    return function(), time.perf_counter() - started
