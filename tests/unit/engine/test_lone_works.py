"""A lone short work is answered on the event loop's thread; anything else goes the usual way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult, Inline, LoopWatch
from service.engine.engine import ItemResult
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.errors import DeviceMemoryError, InferenceError
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Tensors

SHORT, LONG, POISON, TOO_LARGE = 1, 100, -1, -2
CURVE = BatchCurve.of({(1, SHORT): 0.001, (8, SHORT): 0.004, (1, LONG): 0.1})


def work(value: int, length: int = SHORT) -> PreparedItem:
    return PreparedItem({"x": np.array(value)}, length=length)


@dataclass
class Device:
    """Doubles values: here, or in batches on threads that take a tenth of a second."""

    here: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)

    def now(self, batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        values = [int(one.tensors["x"]) for one in batch]
        self.here += values
        if POISON in values:
            raise RuntimeError("poisoned")
        if TOO_LARGE in values:
            raise DeviceMemoryError("no memory")
        return [{"x": np.array(2 * value)} for value in values]

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        values = [int(one.tensors["x"]) for one in batch]
        self.batches.append(values)
        await asyncio.sleep(0.1)
        return BatchResult([{"x": np.array(2 * value)} for value in values], 0.0, 0.1)


@asynccontextmanager
async def running(
    device: Device, slots: Slots | None = None, delay: float = 0.0
) -> AsyncIterator[Batcher]:
    limits = BatchLimits(8, 16, delay)
    meter = NullMeter()
    inline = Inline(CURVE, device.now, LoopWatch())
    batcher = Batcher(device, limits, slots or Slots(2), meter, CURVE, inline=inline)
    batcher.start()
    await asyncio.sleep(0)  # until it waits for works
    yield batcher
    await batcher.stop(grace=0)


def value(done: ItemResult) -> int:
    return int(done.result["x"])


async def test_a_lone_short_work_is_answered_here(looptime) -> None:
    device = Device()
    async with running(device) as batcher:
        for number in (3, 4):
            done = await batcher.submit(work(number))
            assert (value(done), done.batch_size) == (2 * number, 1)
        await asyncio.sleep(0)  # what is counted is counted after the answer
        assert batcher.statistics()[:4] == (0, 0, 2, 2)
    assert (device.here, device.batches) == ([3, 4], [])
    assert looptime == 0


async def test_works_that_come_in_one_turn_make_a_batch() -> None:
    device = Device()
    async with running(device, Slots(1)) as batcher:
        answers = await asyncio.gather(*(batcher.submit(work(n)) for n in (1, 2, 3)))
    assert [value(done) for done in answers] == [2, 4, 6]
    assert (device.here, device.batches) == ([], [[1, 2, 3]])


async def test_a_short_work_runs_here_beside_batches_of_other_models_only() -> None:
    device, slots = Device(), Slots(2)
    async with running(device, slots) as batcher, running(device, slots) as another_model:
        first = asyncio.create_task(batcher.submit(work(1, LONG)))
        await asyncio.sleep(0.05)
        await asyncio.gather(batcher.submit(work(2)), another_model.submit(work(3)))
        await first
    assert device.here == [3]
    assert device.batches == [[1], [2]]


async def test_a_few_short_works_run_here_while_other_models_hold_all_slots() -> None:
    device, slots = Device(), Slots(1)
    async with running(device, slots) as heavy, running(device, slots) as batcher:
        first = asyncio.create_task(heavy.submit(work(1, LONG)))
        await asyncio.sleep(0.05)
        few = [batcher.submit(work(number)) for number in (2, 3)]
        assert [value(done) for done in await asyncio.gather(*few)] == [4, 6]
        assert not first.done()
        many = [batcher.submit(work(number)) for number in range(10, 22)]
        await asyncio.gather(*many)
        assert first.done()
    assert device.here == [2, 3]
    assert sum(map(len, device.batches)) == 13


async def test_a_long_work_runs_on_a_thread() -> None:
    device = Device()
    async with running(device) as batcher:
        await batcher.submit(work(1, LONG))
    assert (device.here, device.batches) == ([], [[1]])


async def test_who_is_told_to_wait_for_company_waits(looptime) -> None:
    device = Device()
    async with running(device, delay=0.5) as batcher:
        await batcher.submit(work(1))
    assert (device.here, device.batches) == ([], [[1]])
    assert looptime == pytest.approx(0.6)


async def test_a_failure_here_is_the_callers_and_the_next_is_answered() -> None:
    device = Device()
    async with running(device) as batcher:
        with pytest.raises(InferenceError, match="poisoned"):
            await batcher.submit(work(POISON))
        with pytest.raises(DeviceMemoryError):
            await batcher.submit(work(TOO_LARGE))
        assert value(await batcher.submit(work(5))) == 10
        assert batcher.statistics().ceiling == 1


async def test_who_leaves_at_once_is_not_computed_and_is_in_nobodys_way() -> None:
    device = Device()
    async with running(device) as batcher:
        leaving = asyncio.create_task(batcher.submit(work(1)))
        asyncio.get_running_loop().call_soon(leaving.cancel)
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        assert value(await batcher.submit(work(2))) == 4
        assert batcher.statistics().pending == 0


async def test_a_long_work_does_not_take_the_place_of_a_short_one_that_left() -> None:
    device = Device()
    async with running(device) as batcher:
        leaving = asyncio.create_task(batcher.submit(work(1)))
        error = InferenceError("left")
        asyncio.get_running_loop().call_soon(lambda: batcher._queue.close(error))
        coming = asyncio.create_task(batcher.submit(work(2, LONG)))  # all in one turn
        with pytest.raises(InferenceError):
            await leaving
        await coming
    assert (device.here, device.batches) == ([], [[2]])


async def test_a_stop_waits_for_a_lone_work() -> None:
    device = Device()
    async with running(device) as batcher:
        asked = asyncio.create_task(batcher.submit(work(6)))
        await asyncio.sleep(0)
        await batcher.stop(grace=1)
        assert value(await asked) == 12
