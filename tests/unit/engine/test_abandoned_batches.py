"""A batch whose clients have all left is stopped; its slot is free when it has really ended."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.errors import DeadlineExceededError, ShuttingDownError
from service.telemetry.meters import NullMeter
from service.types import PreparedItem

CURVE = BatchCurve.of({(1, 1): 0.1, (8, 1): 0.1})
LASTS, SHORT = 100, 1


def work(value: int) -> PreparedItem:
    return PreparedItem({"x": np.array(value)})


@dataclass
class Device:
    """Takes an hour for LASTS, and `obeys` seconds to end once it is stopped."""

    obeys: float = 0.0
    stopped: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        clock = asyncio.get_running_loop().time
        values = [int(one.tensors["x"]) for one in batch]
        try:
            await asyncio.sleep(3600 if LASTS in values else 0.1)
        except asyncio.CancelledError:
            self.stopped.append(clock())
            await asyncio.sleep(self.obeys)
            self.ended.append(clock())
            raise
        return BatchResult([{"x": np.array(2 * value)} for value in values], 0.0, 0.1)


@dataclass
class Tally(NullMeter):
    stops: int = 0
    late: int = 0

    def stopped(self) -> None:
        self.stops += 1

    def overdue(self, change: int) -> None:
        self.late += change


@asynccontextmanager
async def running(device: Device, slots: Slots, tally: Tally) -> AsyncIterator[Batcher]:
    batcher = Batcher(device, BatchLimits(8, 16), slots, tally, CURVE)
    batcher.start()
    yield batcher
    await batcher.stop(grace=0)


async def test_a_batch_past_its_callers_deadline_is_stopped_and_the_next_is_served(
    looptime,
) -> None:
    device, slots, tally = Device(), Slots(1), Tally()
    async with running(device, slots, tally) as batcher:
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(work(LASTS), deadline=2.0)
        assert looptime == pytest.approx(2.0)
        done = await batcher.submit(work(SHORT), deadline=4.0)
        assert int(done.result["x"]) == 2
        assert looptime < 2.5
    assert (tally.stops, tally.late, slots.free) == (1, 0, 1)


async def test_a_batch_whose_caller_left_is_stopped(looptime) -> None:
    device, slots, tally = Device(), Slots(1), Tally()
    async with running(device, slots, tally) as batcher:
        caller = asyncio.create_task(batcher.submit(work(LASTS)))
        await asyncio.sleep(5)
        caller.cancel()
        await batcher.submit(work(SHORT))
    assert device.stopped == [pytest.approx(5.25)]


async def test_a_batch_goes_on_as_long_as_anybody_waits_for_it(looptime) -> None:
    device, slots, tally = Device(), Slots(1), Tally()
    async with running(device, slots, tally) as batcher:
        callers = [asyncio.create_task(batcher.submit(work(LASTS))) for _ in range(3)]
        await asyncio.sleep(1)
        callers[0].cancel()
        callers[1].cancel()
        await asyncio.sleep(100)
        assert device.stopped == []
        callers[2].cancel()
        await asyncio.sleep(1)
    assert device.stopped == [pytest.approx(101.25)]


async def test_a_run_that_does_not_obey_keeps_its_slot_and_is_counted(looptime) -> None:
    device, slots, tally = Device(obeys=60), Slots(1), Tally()
    async with running(device, slots, tally) as batcher:
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(work(LASTS), deadline=1.0)
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(work(SHORT), deadline=20.0)
        assert looptime == pytest.approx(20.0)
        assert (slots.free, slots.overdue, slots.are_lost, tally.late) == (0, 1, True, 1)
        assert batcher.statistics().overdue == 1
        await batcher.submit(work(SHORT))
        assert looptime == pytest.approx(61.35)
        assert (slots.overdue, slots.are_lost, tally.late) == (0, False, 0)


async def test_a_stop_says_how_many_runs_go_on_and_does_not_wait_for_them(looptime) -> None:
    device, slots, tally = Device(obeys=60), Slots(2), Tally()
    batcher = Batcher(device, BatchLimits(1, 16), slots, tally, CURVE)
    batcher.start()
    callers = [asyncio.create_task(batcher.submit(work(LASTS))) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert await batcher.stop(grace=3) == 2
    assert looptime == pytest.approx(3.6)
    for caller in callers:
        with pytest.raises(ShuttingDownError):
            await caller
    assert slots.free == 0
    await asyncio.sleep(60)
    assert (slots.free, slots.overdue) == (2, 0)
