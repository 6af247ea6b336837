"""Which loads go on at the same time."""

import asyncio

import pytest

from service.engine.turns import LoadTurns


async def test_several_work_at_once_up_to_the_limit() -> None:
    turns, loop = LoadTurns(2), asyncio.get_running_loop()
    began = loop.time()

    async def work() -> None:
        async with turns.working():
            await asyncio.sleep(1)

    await asyncio.gather(*(work() for _ in range(5)))
    assert loop.time() - began == pytest.approx(3)


async def test_nothing_goes_on_while_one_measures_and_who_measures_goes_first() -> None:
    turns, order = LoadTurns(2), list[str]()

    async def load(name: str) -> None:
        async with turns.working():
            order.append(f"open {name}")
            await asyncio.sleep(1)
        async with turns.measuring():
            order.append(f"measure {name}")
            await asyncio.sleep(1)
            order.append(f"measured {name}")

    await asyncio.gather(*map(load, "abc"))
    for name in "abc":
        at = order.index(f"measure {name}")
        assert order[at + 1] == f"measured {name}"
    assert order[:2] == ["open a", "open b"]
    assert order.index("measured b") < order.index("open c")


async def test_a_load_that_is_cancelled_leaves_its_place() -> None:
    turns = LoadTurns(1)

    async def measure() -> None:
        async with turns.measuring():
            pass

    async with turns.working():
        waiting = asyncio.create_task(measure())
        await asyncio.sleep(1)
        assert repr(turns) == "<LoadTurns 1 working, 1 wait to measure>"
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(1), turns.working():
        assert repr(turns) == "<LoadTurns 1 working, 0 wait to measure>"
    await measure()
