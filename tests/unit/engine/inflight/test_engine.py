"""The in-flight engine's promises, on a virtual clock."""

import asyncio
from typing import Any

import pytest

from service.engine.engine import ItemResult
from service.engine.slots import Slots
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    ShuttingDownError,
)
from service.types import PreparedItem
from tests.unit.engine.inflight.countdown import (
    LASTS,
    POISON,
    STEP,
    UNREADABLE,
    Model,
    doubled,
    running,
    work,
)


async def test_a_lone_work_begins_at_once_and_takes_its_own_steps(looptime: Any) -> None:
    async with running(Model()) as engine:
        done = await engine.submit(work(21, steps=3))
    assert doubled(done) == 42
    assert looptime == pytest.approx(3 * STEP)
    assert done.queue_seconds == 0
    assert done.compute_seconds == pytest.approx(3 * STEP)


async def test_a_newcomer_joins_at_the_next_step_and_leaves_before_the_others(
    looptime: Any,
) -> None:
    model = Model()
    async with running(model) as engine:
        long = asyncio.create_task(engine.submit(work(1, steps=10)))
        await asyncio.sleep(1.5 * STEP)
        await engine.submit(work(2, steps=2))
        assert looptime == pytest.approx(4 * STEP)
        await long
    assert looptime == pytest.approx(10 * STEP)
    assert model.log == [[1]] * 2 + [[1, 2]] * 2 + [[1]] * 6


async def test_a_row_is_used_again_as_soon_as_it_is_free() -> None:
    model = Model()
    async with running(model, most_rows=2) as engine:
        await asyncio.gather(
            *(engine.submit(work(n, steps)) for n, steps in ((1, 3), (2, 1), (3, 2)))
        )
    assert model.log == [[1, 2], [1, 3], [1, 3]]


async def test_two_instances_share_the_work(looptime: Any) -> None:
    model = Model()
    async with running(model, instances=2) as engine:
        await asyncio.gather(*(engine.submit(work(n, steps=2)) for n in range(4)))
    assert sorted(model.log) == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert looptime == pytest.approx(2 * STEP)


async def test_who_leaves_is_not_computed_from_the_next_step_on() -> None:
    model = Model()
    async with running(model) as engine:
        staying = asyncio.create_task(engine.submit(work(1, steps=4)))
        leaving = asyncio.create_task(engine.submit(work(2, steps=4)))
        await asyncio.sleep(1.5 * STEP)
        leaving.cancel()
        assert doubled(await staying) == 2
        assert engine.statistics().rows_in_use == 0
    assert model.log == [[1, 2], [1, 2], [1], [1]]


async def test_a_deadline_holds_while_waiting_and_while_running(looptime: Any) -> None:
    model = Model()
    async with running(model, most_rows=1) as engine:
        late = asyncio.create_task(engine.submit(work(1, steps=9), deadline=2.5 * STEP))
        await asyncio.sleep(0.5 * STEP)
        waiting = asyncio.create_task(engine.submit(work(2, steps=1), deadline=1.5 * STEP))
        with pytest.raises(DeadlineExceededError):
            await waiting
        assert asyncio.get_running_loop().time() == pytest.approx(1.5 * STEP, abs=1e-4)
        with pytest.raises(DeadlineExceededError):
            await late
        assert asyncio.get_running_loop().time() == pytest.approx(2.5 * STEP, abs=1e-4)
        with pytest.raises(DeadlineExceededError):
            await engine.submit(work(3), deadline=0.0)
        assert doubled(await engine.submit(work(4))) == 8
    assert [2] not in model.log


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async with running(Model(), most_rows=1) as engine:
        await engine.submit(work(0, steps=2))
        accepted = [asyncio.create_task(engine.submit(work(n))) for n in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            await engine.submit(work(9))
        assert refused.value.retry_after == pytest.approx(6 * 2 * STEP)
        assert [doubled(done) for done in await asyncio.gather(*accepted)] == [0, 2, 4, 6, 8, 10]


async def test_the_more_urgent_join_first() -> None:
    model = Model()
    async with running(model, most_rows=1) as engine:
        first = asyncio.create_task(engine.submit(work(0)))
        await asyncio.sleep(0.5 * STEP)
        await asyncio.gather(
            engine.submit(work(1)),
            engine.submit(work(2), deadline=99),
            engine.submit(work(3), priority=1),
        )
        await first
    assert model.log == [[0], [3], [2], [1]]


async def test_an_unreadable_work_fails_alone() -> None:
    async with running(Model()) as engine:
        good, bad = await asyncio.gather(
            engine.submit(work(1)), engine.submit(work(UNREADABLE)), return_exceptions=True
        )
    assert isinstance(bad, InferenceError)
    assert isinstance(good, ItemResult)
    assert doubled(good) == 2


async def test_when_a_step_fails_only_the_guilty_fails() -> None:
    model = Model()
    async with running(model) as engine:
        *good, bad = await asyncio.gather(
            *(engine.submit(work(n, steps=2)) for n in (1, 2, POISON)), return_exceptions=True
        )
    assert isinstance(bad, InferenceError)
    assert [doubled(done) for done in good if isinstance(done, ItemResult)] == [2, 4]
    assert all(len(values) == 1 for values in model.log[1:])


async def test_out_of_memory_lowers_the_rows_and_everybody_is_answered() -> None:
    model = Model(memory_for=2)
    async with running(model, most_rows=4) as engine:
        answers = await asyncio.gather(*(engine.submit(work(n, steps=2)) for n in range(4)))
        assert engine.statistics().ceiling == 2
    assert [doubled(done) for done in answers] == [0, 2, 4, 6]


async def test_stopping_gives_grace_and_then_turns_away(looptime: Any) -> None:
    async with running(Model(), most_rows=1) as engine:
        quick = asyncio.create_task(engine.submit(work(1, steps=2)))
        slow = asyncio.create_task(engine.submit(work(2, steps=50)))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(engine.stop(grace=5 * STEP))
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDownError):
            await engine.submit(work(3))
        assert doubled(await quick) == 2
        with pytest.raises(ShuttingDownError):
            await slow
        await stopping
    assert looptime <= 7 * STEP


async def test_other_users_of_the_device_get_their_turn() -> None:
    slots = Slots(1)
    async with running(Model(), slots=slots) as engine:
        long = asyncio.create_task(engine.submit(work(1, steps=100)))
        await asyncio.sleep(2.5 * STEP)
        await asyncio.wait_for(slots.acquire(), 2 * STEP)
        slots.release()
        await long


async def test_a_watcher_sees_every_step() -> None:
    seen: list[int] = []
    async with running(Model()) as engine:
        await engine.submit(work(1, steps=3), watch=lambda so_far: seen.append(int(so_far["left"])))
    assert seen == [2, 1]


async def test_its_representation_says_who_waits_and_runs() -> None:
    async with running(Model(), most_rows=1) as engine:
        tasks = [asyncio.create_task(engine.submit(work(n))) for n in range(3)]
        await asyncio.sleep(0.5 * STEP)
        assert repr(engine) == "<InFlightEngine 2 waiting, 1 running>"
        assert engine.statistics().pending == 2
        await asyncio.gather(*tasks)
        assert engine.statistics().inference_count == 3


async def test_rows_give_their_memory_back_after_a_minute_without_works(looptime: Any) -> None:
    model = Model()
    async with running(model) as engine:
        await engine.submit(work(1))
        await asyncio.sleep(59)
        assert model.opened[0].resets == 0
        await asyncio.sleep(300)
        assert model.opened[0].resets == 1
        assert doubled(await engine.submit(work(2))) == 4
        await asyncio.sleep(61)
        assert model.opened[0].resets == 2


async def test_reading_before_the_first_step_is_bounded_too(looptime: Any) -> None:
    long = [PreparedItem(work(value).tensors, length=300, group=1) for value in (1, 2, 3)]
    model = Model()
    async with running(model) as engine:
        await asyncio.gather(*(engine.submit(each) for each in long))
    assert model.log == [[1], [2], [3]]


async def test_a_step_that_lasts_is_stopped_when_nobody_waits_for_it(looptime: Any) -> None:
    slots = Slots(1)
    async with running(Model(), slots=slots) as engine:
        with pytest.raises(DeadlineExceededError):
            await engine.submit(work(LASTS), deadline=2.0)
        assert looptime == pytest.approx(2.0)
        assert doubled(await engine.submit(work(5), deadline=4.0)) == 10
        assert looptime < 3.0
        assert engine.statistics()[:2] == (0, 0)
    assert (slots.free, slots.overdue) == (1, 0)


async def test_who_joined_a_stopped_step_begins_again() -> None:
    model = Model()
    async with running(model) as engine:
        lasting = asyncio.create_task(engine.submit(work(LASTS)))
        other = asyncio.create_task(engine.submit(work(5, steps=2)))
        await asyncio.sleep(1.0)
        (stop,) = [instance.stop for instance in engine._scheduler.instances]
        assert stop is not None
        lasting.cancel()
        await asyncio.sleep(1.0)
        assert not stop.is_set  # somebody still waits for the step
        stop.set()
        assert doubled(await other) == 10
        assert engine.statistics().pending == 0
    assert model.log[-2:] == [[5], [5]]


async def test_works_that_left_before_their_step_failed_do_not_wait_again(looptime: Any) -> None:
    async with running(Model()) as engine:
        callers = [asyncio.create_task(engine.submit(work(n))) for n in (POISON, 5)]
        await asyncio.sleep(STEP / 2)
        for caller in callers:
            caller.cancel()
        await asyncio.sleep(2 * STEP)
        assert engine.statistics()[:2] == (0, 0)


async def test_a_stop_ends_a_step_that_lasts(looptime: Any) -> None:
    async with running(Model()) as engine:
        lasting = asyncio.create_task(engine.submit(work(LASTS)))
        await asyncio.sleep(1.0)
        assert await engine.stop(grace=1.0) == 0
        assert looptime < 3.0
        with pytest.raises(ShuttingDownError):
            await lasting
