"""Waiting for a preprocessing thread: in which order, and how many at once."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from service.engine.preprocess import PreprocessQueue
from service.errors import DeadlineExceededError, InvalidInputError, ShuttingDownError

SECONDS = 1.0


class SlowThreads(Executor):
    """Threads of the loop's clock: each call takes a second, some at the same time."""

    def __init__(self, count: int = 1) -> None:
        self._free = asyncio.Semaphore(count)
        self._tasks: set[asyncio.Task[None]] = set()
        self.handed_in = 0
        """Functions that were submitted and have not ended."""

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        task = asyncio.get_running_loop().create_task(self._run(partial(function, *args), future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.handed_in += 1
        return future

    async def _run(self, function: Callable[[], Any], future: Future[Any]) -> None:
        async with self._free:
            await asyncio.sleep(SECONDS)
        self.handed_in -= 1
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)


@pytest.fixture(autouse=True)
async def _plain_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide `SlowThreads` from looptime, which waits in real time for what an executor runs."""

    def run(threads: Executor, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return asyncio.wrap_future(threads.submit(function, *args))

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", run)


def now() -> float:
    return asyncio.get_running_loop().time()


def queue(threads: SlowThreads | None = None) -> PreprocessQueue:
    return PreprocessQueue(threads or SlowThreads(), 1)


async def test_first_come_is_first() -> None:
    done: list[str] = []
    incoming = queue()
    await asyncio.gather(*(incoming.run(partial(done.append, name)) for name in "abc"))
    assert done == ["a", "b", "c"]
    assert now() == pytest.approx(3 * SECONDS)


async def test_a_higher_priority_goes_before_who_waits_longer() -> None:
    done: list[str] = []
    incoming = queue()
    plain = [incoming.run(partial(done.append, name)) for name in "abcd"]
    await asyncio.gather(*plain, incoming.run(partial(done.append, "urgent"), priority=1))
    assert done == ["a", "b", "urgent", "c", "d"]  # the threads have a, and b lies ready


async def test_the_threads_are_handed_one_item_more_than_they_are() -> None:
    threads = SlowThreads(2)
    incoming = PreprocessQueue(threads, 2)
    waiting = asyncio.gather(*(incoming.run(lambda: None) for _ in range(10)))
    for _ in range(4):
        await asyncio.sleep(SECONDS)
        assert threads.handed_in <= 3
    await waiting
    assert now() == pytest.approx(5 * SECONDS)


async def test_a_flood_in_one_queue_does_not_come_before_another_queues_item() -> None:
    threads = SlowThreads()
    flooded, calm = queue(threads), queue(threads)
    flood = asyncio.gather(*(flooded.run(lambda: None) for _ in range(20)))
    await asyncio.sleep(SECONDS / 2)
    await calm.run(lambda: None)
    assert now() <= 3 * SECONDS
    await flood


async def test_who_is_too_late_hears_it_and_is_never_worked_on() -> None:
    done: list[str] = []
    incoming = queue()
    first = [asyncio.ensure_future(incoming.run(partial(done.append, name))) for name in "ab"]
    await asyncio.sleep(0)  # they have come
    with pytest.raises(DeadlineExceededError):
        await incoming.run(partial(done.append, "late"), deadline=now() + SECONDS / 2)
    assert now() == pytest.approx(SECONDS / 2)
    await asyncio.gather(*first, incoming.run(partial(done.append, "c")))
    assert done == ["a", "b", "c"]


async def test_who_leaves_is_not_counted_and_never_worked_on() -> None:
    done: list[str] = []
    incoming = queue()
    tasks = [asyncio.ensure_future(incoming.run(partial(done.append, n))) for n in "abcd"]
    await asyncio.sleep(SECONDS / 2)
    assert incoming.pending == 4
    tasks[0].cancel()  # on the thread: it continues there without a caller
    tasks[2].cancel()
    await asyncio.wait([tasks[0], tasks[2]])
    assert incoming.pending == 2
    await asyncio.gather(tasks[1], tasks[3])
    assert done == ["a", "b", "d"]
    assert incoming.pending == 0


async def test_an_error_is_told_to_its_caller_and_the_others_are_answered() -> None:
    def broken() -> int:
        raise InvalidInputError("no image")

    incoming = queue()
    asked = [incoming.run(function) for function in (lambda: 1, broken, lambda: 3)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [results[0], results[2]] == [1, 3]
    assert isinstance(results[1], InvalidInputError)


@pytest.mark.looptime(False)
async def test_nobody_waits_for_threads_that_have_ended() -> None:
    threads = ThreadPoolExecutor(1)
    incoming = PreprocessQueue(threads, 1)
    has_begun, may_end = threading.Event(), threading.Event()

    def lasts() -> None:
        has_begun.set()
        may_end.wait()

    waiting = [asyncio.ensure_future(incoming.run(lasts)) for _ in range(5)]
    while not has_begun.is_set():  # noqa: ASYNC110 - it is set by another thread
        await asyncio.sleep(0.01)
    threads.shutdown(wait=False, cancel_futures=True)
    may_end.set()
    first, *others = await asyncio.gather(*waiting, return_exceptions=True)
    assert first is None
    assert all(isinstance(error, ShuttingDownError) for error in others)


@pytest.mark.looptime(False)
async def test_it_tells_how_long_what_is_pending_will_take() -> None:
    with ThreadPoolExecutor(2) as threads:
        incoming = PreprocessQueue(threads, 2)
        assert incoming.seconds_left == 0
        await incoming.run(partial(time.sleep, 0.1))
        one = incoming._seconds_per_item
        assert one >= 0.1
        waiting = asyncio.gather(*(incoming.run(partial(time.sleep, 0.1)) for _ in range(8)))
        await asyncio.sleep(0)
        assert incoming.seconds_left == pytest.approx(8 * one / 2)
        await waiting
        assert incoming.seconds_left == 0
