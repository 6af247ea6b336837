"""The promises of `service.engine.engine.Engine`, kept by every engine, on a virtual clock."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.engine.engine import Engine
from service.engine.preprocess import PreprocessQueue
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    ShuttingDownError,
)
from service.types import PreparedItem, Share
from tests.contracts.engines import (
    MAKERS,
    POISON,
    QUEUE,
    SECONDS,
    Model,
    item,
    running,
    turns,
    value,
)
from tests.contracts.wire import Submission, decode_submission, encode_submission
from tests.sentences import sentence


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def make(request: Any) -> Callable[..., Engine]:
    return request.param


async def test_every_caller_gets_its_own_result(make: Any) -> None:
    async with running(make) as (engine, _):
        results = await asyncio.gather(*(engine.submit(item(n, 1 + n % 2)) for n in range(QUEUE)))
    assert [value(result) for result in results] == [0, 2, 4, 6]
    for result in results:
        assert result.result["x"].dtype == np.int32
        assert str(result.result["text"]) == "né"
        assert result.queue_seconds >= 0
        assert result.compute_seconds >= SECONDS * 0.99
        assert result.batch_size >= 1


async def test_nothing_is_accepted_before_the_start(make: Any) -> None:
    with pytest.raises(ShuttingDownError):
        await make(Model(), 4, None).submit(item(1))


async def test_an_item_that_fails_fails_alone(make: Any) -> None:
    async with running(make) as (engine, _):
        first, bad, last = await asyncio.gather(
            *(engine.submit(item(n)) for n in (1, POISON, 3)), return_exceptions=True
        )
    assert (value(first), value(last)) == (2, 6)
    assert isinstance(bad, InferenceError)
    assert "poisoned" in str(bad)


async def test_a_cancelled_call_frees_its_place_and_is_not_computed(make: Any) -> None:
    async with running(make, rows=1) as (engine, model):
        first = asyncio.create_task(engine.submit(item(1)))
        await asyncio.sleep(SECONDS / 2)
        leaving = asyncio.create_task(engine.submit(item(2)))
        await turns()
        assert engine.statistics().pending == 1
        leaving.cancel()
        await turns()
        assert leaving.cancelled()
        assert engine.statistics().pending == 0
        assert value(await first) == 2
        assert value(await engine.submit(item(3))) == 6
    assert model.started == [1, 3]


async def test_a_call_cancelled_while_it_runs_gives_the_device_back(
    make: Any, looptime: Any
) -> None:
    async with running(make, rows=1) as (engine, _):
        lasting = asyncio.create_task(engine.submit(item(1, steps=1000)))
        await asyncio.sleep(SECONDS * 1.5)
        lasting.cancel()
        assert value(await engine.submit(item(2))) == 4
    assert looptime < 2


@pytest.mark.parametrize("after", [0.5, 1.5, 3.5])
async def test_a_deadline_holds_waiting_or_running(make: Any, after: float) -> None:
    async with running(make, rows=1) as (engine, _):
        first = asyncio.create_task(engine.submit(item(1, steps=2)))
        await turns()
        deadline = SECONDS * (1 + after)
        with pytest.raises(DeadlineExceededError):
            await engine.submit(item(2, steps=9), deadline)
        assert asyncio.get_running_loop().time() == pytest.approx(deadline, abs=1e-3)
        assert value(await first) == 2
        assert value(await engine.submit(item(3))) == 6


async def test_a_deadline_that_is_too_close_is_refused_at_once(make: Any, looptime: Any) -> None:
    async with running(make) as (engine, model):
        for deadline in (SECONDS / 2, -1.0):
            with pytest.raises(DeadlineExceededError):
                await engine.submit(item(1), deadline)
        assert looptime == 0
    assert model.started == []


async def test_higher_priority_runs_first_then_the_earlier_deadline(make: Any) -> None:
    async with running(make, rows=1) as (engine, model):
        first = asyncio.create_task(engine.submit(item(0)))
        await asyncio.sleep(SECONDS / 2)
        await asyncio.gather(
            engine.submit(item(1)),
            engine.submit(item(2), deadline=99.0),
            engine.submit(item(3), priority=5),
            engine.submit(item(4), priority=-5),
        )
        await first
    assert model.started == [0, 3, 2, 1, 4]


async def test_a_full_queue_refuses_and_says_when_to_try_again(make: Any) -> None:
    async with running(make, rows=1) as (engine, _):
        await engine.submit(item(0))  # the engine now knows its rate: ten items a second
        running_one = asyncio.create_task(engine.submit(item(1)))
        await asyncio.sleep(SECONDS / 2)
        waiting = [asyncio.create_task(engine.submit(item(2))) for _ in range(QUEUE)]
        await turns()
        for ask in (engine.check_room, lambda: engine.submit(item(9))):
            with pytest.raises(OverloadedError) as refused:
                await (ask() or asyncio.sleep(0))
            assert refused.value.retry_after == pytest.approx(QUEUE * SECONDS)
        results = await asyncio.gather(running_one, *waiting)
        engine.check_room()
    assert [value(result) for result in results] == [2] + [4] * QUEUE


async def test_items_being_preprocessed_count_as_waiting(make: Any) -> None:
    class Later(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
            return super().submit(lambda: None)  # never the function

    with Later(1) as threads:
        incoming = PreprocessQueue(threads, 1)
        incoming.pending = QUEUE
        async with running(make, incoming=incoming) as (engine, _):
            assert engine.statistics().pending == QUEUE
            with pytest.raises(OverloadedError):
                engine.check_room()
            incoming.pending = 0
            assert value(await engine.submit(item(1))) == 2


async def test_stop_answers_what_it_accepted_and_refuses_the_rest(make: Any) -> None:
    async with running(make, rows=1) as (engine, _):
        accepted = [asyncio.create_task(engine.submit(item(n))) for n in range(QUEUE)]
        await turns()
        stopping = asyncio.create_task(engine.stop(grace=10))
        await turns()
        with pytest.raises(ShuttingDownError):
            await engine.submit(item(9))
        with pytest.raises(ShuttingDownError):
            engine.check_room()
        assert await stopping == 0
        assert [value(result) for result in await asyncio.gather(*accepted)] == [0, 2, 4, 6]


async def test_after_the_grace_stop_fails_what_is_left(make: Any, looptime: Any) -> None:
    async with running(make, rows=1) as (engine, _):
        accepted = [asyncio.create_task(engine.submit(item(n, steps=30))) for n in range(3)]
        await turns()
        assert await engine.stop(grace=SECONDS) == 0
        results = await asyncio.gather(*accepted, return_exceptions=True)
    assert all(isinstance(result, ShuttingDownError) for result in results)
    assert looptime < 2


async def test_statistics_agree_with_what_was_done(make: Any) -> None:
    async with running(make, rows=2) as (engine, _):
        assert engine.statistics()[:4] == (0, 0, 0, 0)
        callers = [asyncio.create_task(engine.submit(item(n))) for n in range(3)]
        await asyncio.sleep(SECONDS / 2)
        seen = engine.statistics()
        assert (seen.pending, seen.running, seen.ceiling, seen.overdue) == (1, 1, 2, 0)
        assert seen.rows_in_use == (2 if engine.streams_partial_results else None)
        await asyncio.gather(*callers)
        await asyncio.sleep(SECONDS)
        seen = engine.statistics()
    assert (seen.pending, seen.running) == (0, 0)
    assert (seen.inference_count, seen.execution_count) == (3, 2)


async def test_partial_results_are_streamed_where_the_engine_says_so(make: Any) -> None:
    seen: list[int] = []
    async with running(make) as (engine, _):
        result = await engine.submit(item(4, 3), watch=lambda now: seen.append(int(now["steps"])))
    assert value(result) == 8
    assert seen == ([1, 2] if engine.streams_partial_results else [])


async def test_a_window_is_at_least_one_item_and_leaves_room_in_the_queue(make: Any) -> None:
    async with running(make) as (engine, _):
        assert engine.window == 1


async def test_a_failed_call_leaves_nothing_for_the_garbage_collector(make: Any) -> None:
    async with running(make) as (engine, _):
        tensor = np.array(POISON)
        known = weakref.ref(tensor)
        prepared = PreparedItem({"x": tensor, "steps": np.array(1), "text": np.array("")})
        del tensor
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(InferenceError):
                await engine.submit(prepared)
            del prepared
            await asyncio.sleep(SECONDS)
            assert known() is None
        finally:
            gc.enable()


def test_arrays_of_python_objects_are_refused() -> None:
    prepared = PreparedItem({"x": np.array([object()])})
    with pytest.raises(TypeError, check=sentence):
        encode_submission(Submission(prepared, None, 0, False))


SHARE = Share("search", 2.5)


def test_a_submission_arrives_as_it_was_sent() -> None:
    strided = np.arange(12, dtype=np.float16).reshape(3, 4)[:, ::2]
    tensors = {"a": strided, "b": np.array(True), "c": np.zeros((0, 3)), "d": np.array("né")}
    sent = Submission(
        PreparedItem(tensors, "image", 7, (1, 0.1, "x", None, True)), 1.5, -3, True, SHARE
    )
    found = decode_submission(encode_submission(sent))
    assert (found.seconds_left, found.priority, found.is_watched) == (1.5, -3, True)
    assert found.share == SHARE
    assert (found.prepared.lane, found.prepared.length) == ("image", 7)
    assert found.prepared.group == sent.prepared.group
    assert {name: array.dtype for name, array in found.prepared.tensors.items()} == {
        name: array.dtype for name, array in tensors.items()
    }
    for name, array in tensors.items():
        np.testing.assert_array_equal(found.prepared.tensors[name], array)
