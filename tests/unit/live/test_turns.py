"""Turns: fair, bounded, and adapted to how long frames take. Time is virtual."""

import asyncio
from collections import Counter

from service.live.turns import Turns

INTERVAL = 0.1
MOST = 16
SECONDS = 6


class Device:
    """Computes one frame after the other."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._lock = seconds, asyncio.Lock()
        self.ages: list[float] = []
        self.served: Counter[int] = Counter()

    async def compute(self) -> None:
        async with self._lock:
            await asyncio.sleep(self.seconds)


async def camera(number: int, turns: Turns, device: Device, until: float) -> None:
    """Analyse the newest frame, again and again. A frame comes every `INTERVAL`."""
    loop = asyncio.get_running_loop()
    offset, last = number * 0.007, -1
    while loop.time() < until:
        if (newest := int((loop.time() - offset) / INTERVAL)) == last:
            await asyncio.sleep(max(0.001, offset + (last + 1) * INTERVAL - loop.time()))
            continue
        async with turns.turn(INTERVAL, MOST):
            last = newest = max(newest, int((loop.time() - offset) / INTERVAL))
            await device.compute()
        device.ages.append(loop.time() - offset - newest * INTERVAL)
        device.served[number] += 1


async def watched(cameras: int, seconds: float) -> Device:
    turns, device = Turns(), Device(seconds)
    until = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(camera(n, turns, device, until) for n in range(cameras)))
    assert turns.running == 0
    return device


async def test_a_device_that_keeps_up_drops_nothing() -> None:
    device = await watched(8, 0.010)
    assert min(device.served.values()) >= 10 * SECONDS - 3
    assert sorted(device.ages)[int(0.99 * len(device.ages))] < INTERVAL


async def test_one_that_does_not_serves_all_alike_and_only_new_frames() -> None:
    device = await watched(16, 0.020)  # a third of what 16 cameras send
    assert max(device.served.values()) - min(device.served.values()) <= 2
    assert sum(device.served.values()) >= 0.97 * SECONDS / 0.020
    assert max(device.ages) < 2 * INTERVAL


async def test_who_leaves_passes_its_turn_on() -> None:
    turns, entered = Turns(allowed=1.0), asyncio.Event()

    async def hold() -> None:
        async with turns.turn(INTERVAL, MOST):
            await entered.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in tasks[:3]:  # one that runs, and two that wait
        task.cancel()
    await asyncio.gather(*tasks[:3], return_exceptions=True)
    entered.set()
    await tasks[3]
    assert turns.running == 0
