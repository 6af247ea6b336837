"""Slots are handed out in order of use and never lost."""

import asyncio

import pytest

from service.engine.slots import Slots, Usage
from tests.sentences import sentence


async def test_slots_are_given_in_the_order_of_asking() -> None:
    slots, order = Slots(1), []

    async def use(name: str) -> None:
        await slots.acquire()
        order.append(name)
        slots.release()

    await slots.acquire()
    async with asyncio.TaskGroup() as tasks:
        for name in "abc":
            tasks.create_task(use(name))
        await asyncio.sleep(0)
        slots.release()
    assert order == ["a", "b", "c"]
    assert repr(slots) == "<Slots 1 of 1 free, 0 waiting>"


async def test_a_lane_that_has_computed_less_gets_the_next_slot() -> None:
    slots, seconds = Slots(1), {"long": 0.03, "short": 0.01}
    used = dict.fromkeys(seconds, 0.0)

    async def run(name: str, usage: Usage) -> None:
        await asyncio.sleep(seconds[name])
        usage.seconds += seconds[name]
        used[name] += seconds[name]
        slots.release()

    async def use(name: str, runs: asyncio.TaskGroup) -> None:
        usage = Usage()
        while sum(used.values()) < 3.0:
            await slots.acquire(usage)
            runs.create_task(run(name, usage))

    async with asyncio.TaskGroup() as tasks:
        for name in seconds:
            tasks.create_task(use(name, tasks))
    assert used["short"] == pytest.approx(used["long"], abs=0.1)


async def test_what_a_lane_has_not_used_while_it_was_idle_is_not_saved_up() -> None:
    slots, busy, idle = Slots(1), Usage(), Usage()
    for _ in range(100):
        await slots.acquire(busy)
        busy.seconds += 1
        slots.release()
    await slots.acquire(idle)
    assert busy.seconds - idle.seconds <= 1
    slots.release()


async def test_an_asker_who_leaves_as_it_is_served_loses_no_slot() -> None:
    slots = Slots(1)
    await slots.acquire()
    asker = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    slots.release()
    asker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert slots.free == 1


async def test_an_asker_who_left_is_passed_over() -> None:
    slots = Slots(1)
    await slots.acquire()
    leaving, staying = asyncio.create_task(slots.acquire()), asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    slots.release()
    await staying
    assert repr(slots) == "<Slots 0 of 1 free, 0 waiting>"


def test_no_slots_at_all_are_refused() -> None:
    with pytest.raises(ValueError, check=sentence):
        Slots(0)


def test_slots_are_lost_when_every_thread_is_held_by_an_overdue_run() -> None:
    slots = Slots(2, ahead=1)
    assert not slots.are_lost
    slots.overdue = 1
    assert not slots.are_lost
    slots.overdue = 2
    assert slots.are_lost


async def test_a_batch_formed_ahead_does_not_count_as_running() -> None:
    slots = Slots(2, ahead=1)
    counts = [slots.running]
    for _ in range(3):
        await slots.acquire()
        counts.append(slots.running)
    assert counts == [0, 1, 2, 2]
