"""A busy model is shared between owners by weight, on a virtual clock."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.fairness import Holdings, VirtualTime, fair_order
from service.engine.inflight.scheduler import Instance, Scheduler, StepEntry
from service.engine.policy import BatchLimits, Urgency, by_urgency
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.errors import OverloadedError
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Share
from tests.unit.engine.test_preprocess_queue import SlowThreads, _plain_futures

FLOOD, QUIET = Share("flood"), Share("quiet")
SECOND = 0.1
"""Of one row; rows in a batch save half."""
CURVE = BatchCurve.of({(1, 1): SECOND, (8, 1): SECOND * 4.5})

__all__ = ["_plain_futures"]  # a fixture


@dataclass
class Owned:
    share: Share | None
    urgency: Urgency = (0, inf, 0.0)
    prepared: PreparedItem = field(default_factory=lambda: PreparedItem({}))


def owned(name: str, *urgency: float, weight: float = 1.0) -> Owned:
    priority, deadline, arrival = urgency
    return Owned(Share(name, weight), (int(priority), deadline, arrival))


def order(items: Sequence[Owned], time: VirtualTime | None = None) -> list[int]:
    begins = (time or VirtualTime()).begins(items)
    return list(fair_order(by_urgency(items), items, [1.0] * len(items), begins))


def test_owners_take_turns_however_many_items_one_has() -> None:
    items = [owned("a", 0, inf, n) for n in range(4)] + [owned("b", 0, inf, n + 9) for n in (0, 1)]
    assert order(items) == [0, 4, 1, 5, 2, 3]


def test_a_weight_of_two_has_two_turns() -> None:
    items = [owned("a", 0, inf, n) for n in range(4)]
    items += [owned("b", 0, inf, n + 9, weight=2) for n in range(4)]
    assert [items[i].share.name for i in order(items)[:6]] == list("abbabb")  # type: ignore[union-attr]


def test_priority_comes_first_and_an_earlier_deadline_among_the_items_of_one_owner() -> None:
    items = [
        owned("a", 0, inf, 0),
        owned("a", 0, 5.0, 1),
        owned("b", 0, inf, 2),
        owned("b", -1, inf, 3),
    ]
    assert order(items) == [3, 1, 0, 2]


def test_one_owner_alone_is_served_as_without_owners() -> None:
    items = [owned("a", 0, deadline, 0.0) for deadline in (3.0, 1.0, 2.0)]
    assert order(items) == [1, 2, 0]
    assert order([Owned(None), Owned(None)]) == [0, 1]


def test_an_owner_that_was_idle_has_saved_up_nothing() -> None:
    time, flood = VirtualTime(), owned("flood", 0, inf, 0)
    for _ in range(1000):
        time.begins([flood])
        time.charge(flood.share, 1.0)
    items = [owned("flood", 0, inf, n) for n in range(8)]
    items += [owned("late", 0, inf, n) for n in range(8, 16)]
    first = Counter(items[i].share.name for i in order(items, time)[:8])  # type: ignore[union-attr]
    assert first["late"] in (4, 5)


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=2, max_size=5),
    st.integers(50, 200),
    st.data(),
)
def test_owners_that_always_wait_get_their_weights(
    weights: list[float], turns: int, data: st.DataObject
) -> None:
    time, served = VirtualTime(), Counter[str]()
    shares = [Share(str(number), weight) for number, weight in enumerate(weights)]
    for turn in range(turns):
        items = [Owned(share, (0, inf, turn)) for share in shares]
        costs = [data.draw(st.floats(0.5, 2.0)) for _ in items] if turn < 5 else [1.0] * len(items)
        begins = time.begins(items)
        first = fair_order(by_urgency(items), items, costs, begins)[0]
        time.charge(shares[first], costs[first])
        served[shares[first].name] += 1
    times = [time.begin(share.name) for share in shares]
    assert max(times) - min(times) <= 2.0 / min(weights)


def test_owners_that_are_gone_are_forgotten() -> None:
    time = VirtualTime()
    for number in range(5000):
        item = Owned(Share(str(number)))
        time.begins([item])
        time.charge(item.share, 1.0)
    assert len(time._served) <= 1025


def test_what_an_owner_may_hold() -> None:
    holdings = Holdings()
    assert not holdings.is_over(FLOOD), "an owner without items may always come"
    for _ in range(10):
        holdings.enter(FLOOD)
    assert holdings.is_over(FLOOD), "alone it leaves room for one more like it"
    assert not holdings.is_over(QUIET)
    holdings.enter(QUIET)
    assert (holdings.is_light(QUIET), holdings.is_light(FLOOD)) == (True, False)
    for _ in range(9):
        holdings.enter(QUIET)
    assert (holdings.is_light(QUIET), holdings.is_light(FLOOD)) == (False, False)
    for _ in range(10):
        holdings.leave(FLOOD)
        holdings.leave(QUIET)
    assert holdings == Holdings()


class Device:
    """Takes as long for a batch as the curve says."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.rows: list[int] = []

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        seconds = CURVE.seconds(len(batch), 1)
        self.longest = max(self.longest, seconds)
        self.rows.append(len(batch))
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        return BatchResult([{} for _ in batch], started, seconds)


def batcher(device: Device, size: int = 64) -> Batcher:
    made = Batcher(
        device,
        BatchLimits(max_batch_size=8, max_queue_size=size),
        Slots(1),
        NullMeter(),
        CURVE,
        clock=asyncio.get_running_loop().time,
    )
    made.start()
    return made


ITEM = PreparedItem({"x": np.array(0)})


async def flood(engine: Batcher, share: Share, done: Counter[str], clients: int) -> None:
    """Keep one item of each client in progress."""

    async def client() -> None:
        while True:
            try:
                await engine.submit(ITEM, share=share)
                done[share.name] += 1
            except OverloadedError as error:
                await asyncio.sleep(error.retry_after or SECOND)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def latencies(engine: Batcher, share: Share, pause: float, count: int) -> list[float]:
    loop, found = asyncio.get_running_loop(), []
    for _ in range(count):
        await asyncio.sleep(pause)
        began = loop.time()
        await engine.submit(ITEM, share=share)
        found.append(loop.time() - began)
    return sorted(found)


async def test_the_quiet_owner_waits_for_twice_its_time_alone_and_one_batch() -> None:
    device = Device()
    engine = batcher(device)
    alone = await latencies(engine, QUIET, 0.77, 20)
    flooding = asyncio.create_task(flood(engine, FLOOD, Counter(), 1000))
    await asyncio.sleep(10)
    beside = await latencies(engine, QUIET, 0.77, 80)
    await ended(flooding)
    assert max(device.rows) > 4, "the flood is batched"
    assert beside[-1] <= 2 * alone[-1] + device.longest + 1e-6
    await engine.stop(0)


async def test_floods_share_the_device_by_weight() -> None:
    engine, done = batcher(Device()), Counter[str]()
    floods = [
        asyncio.create_task(flood(engine, Share(name, weight), done, 60))
        for name, weight in (("one", 1.0), ("three", 3.0))
    ]
    await asyncio.sleep(200)
    await ended(*floods)
    assert done["three"] / done["one"] == pytest.approx(3, rel=0.1)
    await engine.stop(0)


async def test_a_queue_keeps_places_for_owners_that_hold_less_than_their_share() -> None:
    engine = batcher(Device(), size=16)
    waiting = [asyncio.create_task(engine.submit(ITEM, share=FLOOD)) for _ in range(30)]
    quiet = [asyncio.create_task(engine.submit(ITEM, share=QUIET)) for _ in range(3)]
    await asyncio.sleep(0)
    assert engine.statistics().pending == engine.statistics().most_pending == 16
    results = await asyncio.gather(*waiting, *quiet, return_exceptions=True)
    refused = [isinstance(result, OverloadedError) for result in results]
    assert (sum(refused[:30]), refused[30:]) == (16, [False, False, True])
    assert engine._queue.holdings == Holdings()
    await engine.stop(0)


async def test_an_owner_is_forgotten_however_its_items_end() -> None:
    engine = batcher(Device())
    tasks = [
        asyncio.create_task(engine.submit(ITEM, deadline, share=FLOOD))
        for deadline in (None, 5 * SECOND, None, None)
        for _ in range(8)
    ]
    await asyncio.sleep(SECOND)
    tasks[-1].cancel()
    tasks[0].cancel()
    await engine.stop(SECOND)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert engine._queue.holdings == Holdings()


async def test_preprocessing_takes_turns_too() -> None:
    incoming, done = PreprocessQueue(SlowThreads(), 1), []
    asked: list[Any] = [
        incoming.run(partial(done.append, f"flood {n}"), share=FLOOD) for n in range(6)
    ]
    asked += [incoming.run(partial(done.append, f"quiet {n}"), share=QUIET) for n in range(2)]
    asked.append(incoming.run(partial(done.append, "urgent"), priority=1, share=FLOOD))
    await asyncio.gather(*asked)
    # Two were on the thread, or next to it, before the others came.
    assert done[:2] == ["flood 0", "flood 1"]
    assert done[2] == "urgent"
    assert set(done[3:7]) == {"quiet 0", "quiet 1", "flood 2", "flood 3"} or done[3:5] == [
        "quiet 0",
        "quiet 1",
    ]
    assert incoming.holdings == Holdings()


class NoRows:
    """Rows that are never run."""

    count = in_use = 0


async def test_an_in_flight_engine_lets_owners_join_in_turn() -> None:
    instance = Instance(NoRows())  # type: ignore[arg-type]
    scheduler = Scheduler([instance], most_rows=4, budget=100)

    def entry(share: Share, arrival: float) -> StepEntry:
        result = asyncio.get_running_loop().create_future()
        return StepEntry(PreparedItem({}), (0, inf, arrival), inf, 0.0, result, share, 1)

    for n in range(10):
        scheduler.add(entry(FLOOD, n))
    scheduler.add(entry(QUIET, 10))
    scheduler.add(entry(QUIET, 11))
    joined = scheduler.take(instance, 0.0)
    assert Counter(each.share.name for each in joined if each.share) == {"flood": 2, "quiet": 2}
    scheduler.leave(instance, joined)
    scheduler.add(entry(QUIET, 12))
    again = scheduler.take(instance, 0.0)
    assert Counter(each.share.name for each in again if each.share) == {"flood": 3, "quiet": 1}
