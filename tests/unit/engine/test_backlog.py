"""What an engine says waits is what it then takes, within a quarter; on a virtual clock."""

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.engine import Engine
from service.engine.inflight.engine import InFlightEngine, InstanceOptions
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.telemetry.meters import NullMeter
from service.types import PreparedItem
from tests.unit.engine.inflight.countdown import Model, run_loop

# A batch of eight takes as long as two to four items alone.
CURVE = BatchCurve.of({(1, 1): 0.01, (8, 1): 0.02, (1, 100): 0.1, (8, 100): 0.4})
LIMITS = BatchLimits(8, 1000)


def item(length: int) -> PreparedItem:
    return PreparedItem({"x": np.array(1), "steps": np.array(length)}, length=length, group=1)


class Device:
    """Takes `slower` times as long as the curve says."""

    def __init__(self, slower: float) -> None:
        self.slower, self.spent = slower, 0.0

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        longest = max(one.length for one in batch)
        seconds = self.slower * CURVE.seconds(len(batch), longest)
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        self.spent += seconds
        return BatchResult([{} for _ in batch], started, seconds)


async def predicted_and_taken(
    engine: Engine, slots: Slots, lengths: Sequence[int]
) -> tuple[float, float]:
    for _ in range(slots.count):  # so that nothing begins before all wait
        await slots.acquire()
    tasks = [asyncio.create_task(engine.submit(item(length))) for length in lengths]
    await asyncio.sleep(0)
    predicted = engine.statistics().backlog_seconds
    started = asyncio.get_running_loop().time()
    for _ in range(slots.count):
        slots.release()
    await asyncio.gather(*tasks)
    assert engine.statistics().backlog_seconds == 0
    return predicted, asyncio.get_running_loop().time() - started


@pytest.mark.parametrize("lengths", [[1] * 200, [100] * 40, [1, 20, 50, 100] * 30, [100]])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("slower", [1.0, 1.7])
async def test_the_backlog_of_known_batches(
    lengths: Sequence[int], threads: int, slower: float
) -> None:
    clock = asyncio.get_running_loop().time
    slots = Slots(threads, clock=clock)
    device = Device(slower)
    batcher = Batcher(device, LIMITS, slots, NullMeter(), CURVE, clock=clock)
    batcher.start()
    for _ in range(3):  # before the load items come alone, without others
        await batcher.submit(item(50))
    predicted, taken = await predicted_and_taken(
        batcher, slots, random.Random(1).sample(lengths, len(lengths))
    )
    await batcher.stop(grace=0)
    assert predicted == pytest.approx(taken, rel=0.25)
    assert predicted > 0


@pytest.mark.parametrize("instances", [1, 2])
async def test_the_backlog_of_items_in_flight(instances: int) -> None:
    clock = asyncio.get_running_loop().time
    slots = Slots(instances, clock=clock)
    options = InstanceOptions(instances, 4, slots, lambda act, exclusive: act({}), run_loop)
    engine = InFlightEngine(Model(), options, LIMITS, NullMeter(), CURVE, clock=clock)
    engine.start()
    for _ in range(2):  # the load before: it says how long items take in a batch
        await predicted_and_taken(engine, slots, [3, 5, 8, 4] * 8)
    predicted, taken = await predicted_and_taken(engine, slots, [4, 2, 9, 5] * 12)
    await engine.stop(grace=0)
    assert predicted == pytest.approx(taken, rel=0.25)


@pytest.mark.looptime(False)
async def test_items_that_are_preprocessed_count() -> None:
    with ThreadPoolExecutor(1) as threads:
        incoming = PreprocessQueue(threads, 1)
        batcher = Batcher(Device(1.0), LIMITS, Slots(1), NullMeter(), CURVE, incoming=incoming)
        batcher.start()
        await batcher.submit(item(100))
        held: Any = asyncio.Event()
        loop = asyncio.get_running_loop()
        running = [
            asyncio.create_task(
                incoming.run(lambda: asyncio.run_coroutine_threadsafe(held.wait(), loop).result())
            )
            for _ in range(5)
        ]
        await asyncio.sleep(0)
        assert batcher.statistics().backlog_seconds == pytest.approx(5 * 0.1)
        held.set()
        await asyncio.gather(*running)
        assert batcher.statistics().backlog_seconds == 0
        await batcher.stop(grace=0)


async def test_busy_seconds_are_those_that_batches_computed() -> None:
    clock = asyncio.get_running_loop().time
    slots = Slots(2, clock=clock)
    device = Device(1.0)
    batcher = Batcher(device, LIMITS, slots, NullMeter(), CURVE, clock=clock)
    batcher.start()
    assert slots.busy_seconds == 0
    await asyncio.gather(*(batcher.submit(item(100)) for _ in range(60)))
    await asyncio.sleep(5)
    assert slots.busy_seconds == pytest.approx(device.spent)
    lasting = asyncio.create_task(batcher.submit(item(100)))
    await asyncio.sleep(0.06)
    assert slots.busy_seconds == pytest.approx(device.spent + 0.06, abs=1e-3)
    await lasting
    await batcher.stop(grace=0)
