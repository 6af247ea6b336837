"""The batcher's promises, on a virtual clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    ShuttingDownError,
)
from service.types import PreparedItem
from tests.sentences import sentence
from tests.unit.engine.echo import (
    BATCHING_PAYS,
    POISON,
    SECONDS,
    Echo,
    Tally,
    ask,
    running,
    value,
    work,
)


async def test_a_lone_item_leaves_at_once_and_has_the_device_for_itself(looptime) -> None:
    device = Echo()
    async with running(device, slots=2) as batcher:
        done = await batcher.submit(work(21))
    assert value(done) == 42
    assert looptime == SECONDS
    assert device.exclusive == [True]
    assert (done.queue_seconds, done.batch_size) == (0, 1)


async def test_items_gather_while_a_batch_runs() -> None:
    device = Echo()
    async with running(device) as batcher:
        first = asyncio.create_task(batcher.submit(work(0)))
        await asyncio.sleep(SECONDS / 2)
        answers = await ask(batcher, 1, 2, 3)
        await first
    assert device.batches == [[0], [1, 2, 3]]
    assert [value(a) for a in answers] == [2, 4, 6]
    assert answers[0].queue_seconds == pytest.approx(SECONDS / 2)


async def test_a_queue_delay_gathers_even_when_idle(looptime) -> None:
    device = Echo()
    async with running(device, max_queue_delay=0.5) as batcher:
        await ask(batcher, 1, 2)
    assert device.batches == [[1, 2]]
    assert looptime == pytest.approx(0.5 + SECONDS)


async def test_two_slots_run_two_batches_at_once(looptime) -> None:
    device = Echo()
    async with running(device, slots=2) as batcher:
        await ask(batcher, 1, 2, 3, 4)
    assert device.batches == [[1, 2], [3, 4]]
    assert looptime == pytest.approx(SECONDS)


async def test_models_of_one_device_take_turns() -> None:
    one, other, slots = Echo(), Echo(), Slots(1)
    limits = BatchLimits(1, 16)
    batchers = [Batcher(d, limits, slots, Tally()) for d in (one, other)]
    for batcher in batchers:
        batcher.start()
    ends: list[str] = []

    async def timed(batcher: Batcher, name: str) -> None:
        await batcher.submit(work(1))
        ends.append(name)

    await asyncio.gather(
        *(timed(b, n) for n, b in zip("ab", batchers, strict=True) for _ in "1234")
    )
    for turn in range(1, len(ends)):
        assert abs(ends[:turn].count("a") - ends[:turn].count("b")) <= 2
    for batcher in batchers:
        await batcher.stop(0)


@dataclass
class Timed(Echo):
    """A device on which a batch takes `seconds`, on one of its threads."""

    threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    seconds: float = SECONDS
    spent: float = 0.0

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        async with self.threads:
            started = asyncio.get_running_loop().time()
            await asyncio.sleep(self.seconds)
        self.spent += self.seconds
        return BatchResult([work.tensors for work in batch], started, self.seconds)


@pytest.mark.parametrize("costs", [[0.02] * 10, [0.01 * (n + 1) for n in range(10)]])
@pytest.mark.parametrize("ahead", [0, 1])
async def test_ten_busy_models_get_equal_parts_of_a_device(
    costs: Sequence[float], ahead: int
) -> None:
    slots, threads = Slots(2, ahead, asyncio.get_running_loop().time), asyncio.Semaphore(2)
    devices = [Timed(threads=threads, seconds=seconds) for seconds in costs]
    curves = [BatchCurve.of({(1, 1): seconds, (4, 1): seconds}) for seconds in costs]
    batchers = [
        Batcher(device, BatchLimits(4, 16), slots, Tally(), curve)
        for device, curve in zip(devices, curves, strict=True)
    ]

    async def client(batcher: Batcher) -> None:
        while True:
            await batcher.submit(work(1))

    for batcher in batchers:
        batcher.start()
    clients = [asyncio.create_task(client(b)) for b in batchers for _ in range(12)]
    await asyncio.sleep(60)
    spent = [device.spent for device in devices]
    for one in clients:
        one.cancel()
    for batcher in batchers:
        await batcher.stop(0)
    assert sum(spent) == pytest.approx(2 * 60, rel=0.01)
    assert spent == pytest.approx([2 * 60 / 10] * 10, rel=0.1)


async def test_one_caller_of_a_batch_leaves_and_the_others_are_answered() -> None:
    device = Echo()
    async with running(device) as batcher:
        callers = [asyncio.create_task(batcher.submit(work(v))) for v in (1, 2, 3)]
        await asyncio.sleep(SECONDS / 2)
        callers[1].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert [value(answers[0]), value(answers[2])] == [2, 6]
    assert repr(batcher) == "<Batcher 0 waiting, 0 running>"


async def test_who_left_before_its_turn_is_not_computed() -> None:
    device = Echo()
    async with running(device) as batcher:
        first = asyncio.create_task(batcher.submit(work(0)))
        await asyncio.sleep(SECONDS / 2)
        leaving, staying = (asyncio.create_task(batcher.submit(work(v))) for v in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(first, staying)
    assert device.batches == [[0], [2]]


async def test_a_poisoned_item_fails_alone() -> None:
    device, tally = Echo(), Tally()
    async with running(device, tally) as batcher:
        answers = await ask(batcher, 1, 2, POISON, 4, 5)
    assert isinstance(answers[2], InferenceError)
    assert "poisoned" in str(answers[2])
    assert [value(a) for i, a in enumerate(answers) if i != 2] == [2, 4, 8, 10]
    assert tally.isolations == 1


async def test_when_every_run_fails_every_caller_hears_of_it() -> None:
    async with running(Echo()) as batcher:
        answers = await ask(batcher, *[POISON] * 4)
    assert all(isinstance(a, InferenceError) for a in answers)


async def test_a_device_that_returns_too_few_results_answers_nobody_wrongly() -> None:
    class Forgetful(Echo):
        async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
            ran = await super().__call__(batch, exclusive)
            return ran._replace(results=ran.results[1:])

    async with running(Forgetful()) as batcher:
        answers = await ask(batcher, 1, 2)
    assert all(isinstance(a, InferenceError) for a in answers)


async def test_out_of_memory_halves_the_batch_and_remembers_the_ceiling() -> None:
    device, tally = Echo(memory_for=2), Tally()
    async with running(device, tally) as batcher:
        answers = await ask(batcher, 1, 2, 3, 4)
        await ask(batcher, 1, 2, 3, 4)
        assert batcher.statistics().ceiling == 2
    assert [value(a) for a in answers] == [2, 4, 6, 8]
    assert device.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [1, 2], [3, 4]]
    assert tally.exhaustions == 1


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    curve = BatchCurve.of({(1, 1): SECONDS / 2})
    async with running(Echo(), curve=curve, max_queue_size=2, max_batch_size=1) as batcher:
        await batcher.submit(work(0))  # twice as slow as at warm-up
        answers = await ask(batcher, 1, 2, 3)
    refused = [a for a in answers if isinstance(a, OverloadedError)]
    assert len(refused) == 1
    assert refused[0].retry_after == pytest.approx(2 * SECONDS)


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(looptime) -> None:
    async with running(Echo()) as batcher:
        with pytest.raises(DeadlineExceededError, check=sentence):
            await batcher.submit(work(1), deadline=SECONDS / 2)
    assert looptime == 0


async def test_what_expired_in_the_queue_is_never_computed(looptime) -> None:
    device = Echo()
    async with running(device, max_batch_size=1) as batcher:
        others = [asyncio.create_task(batcher.submit(work(v))) for v in (1, 2, 3)]
        await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(work(9, length=1), deadline=0.12, priority=-1)
        assert looptime == pytest.approx(0.12)
        await asyncio.gather(*others)
    assert [9] not in device.batches


async def test_a_deadline_holds_during_the_batch_too(looptime) -> None:
    class Slow(Echo):
        async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
            await asyncio.sleep(5)
            return await super().__call__(batch, exclusive)

    async with running(Slow()) as batcher:
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(work(1), deadline=1.0)
        assert looptime == pytest.approx(1.0)


async def test_an_urgent_item_overtakes() -> None:
    device = Echo()
    async with running(device, max_batch_size=1) as batcher:
        first = asyncio.create_task(batcher.submit(work(0)))
        await asyncio.sleep(0.01)
        calm = asyncio.create_task(batcher.submit(work(1)))
        urgent = asyncio.create_task(batcher.submit(work(2), priority=5))
        await asyncio.gather(first, calm, urgent)
    assert device.batches == [[0], [2], [1]]


async def test_stop_finishes_what_was_accepted_within_the_grace() -> None:
    device = Echo()
    async with running(device, max_batch_size=1) as batcher:
        callers = [asyncio.create_task(batcher.submit(work(v))) for v in (1, 2, 3)]
        await asyncio.sleep(0)
        await batcher.stop(grace=10)
        assert [value(await caller) for caller in callers] == [2, 4, 6]
        with pytest.raises(ShuttingDownError):
            await batcher.submit(work(4))


async def test_after_stop_nobody_waits_for_ever(looptime) -> None:
    async with running(Echo(), max_batch_size=1) as batcher:
        callers = [asyncio.create_task(batcher.submit(work(v))) for v in (1, 2, 3)]
        await asyncio.sleep(0.01)
        await batcher.stop(grace=0.15)
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert looptime < 1
    assert [isinstance(a, ShuttingDownError) for a in answers] == [False, True, True]
    assert repr(batcher) == "<Batcher 0 waiting, 0 running>"


async def test_a_bug_in_forming_a_batch_leaves_nobody_waiting() -> None:
    class Broken(BatchCurve):
        def best_cost(self, length: int) -> float:
            if length > 1:
                raise ZeroDivisionError("no such length")
            return super().best_cost(length)

    sound = BATCHING_PAYS
    curve = Broken(sound.lengths, sound.table, sound.best_cost_per_row)
    async with running(Echo(), curve=curve) as batcher:
        with pytest.raises(InferenceError, check=sentence):
            await batcher.submit(work(1, length=2))
        assert value(await batcher.submit(work(1))) == 2


async def test_its_state_can_be_seen() -> None:
    async with running(Echo(), max_batch_size=2, max_queue_size=5) as batcher:
        callers = [asyncio.create_task(batcher.submit(work(v))) for v in (1, 2, 3)]
        await asyncio.sleep(0.01)
        assert repr(batcher) == "<Batcher 1 waiting, 1 running>"
        await asyncio.gather(*callers)
        seen = batcher.statistics()
    assert (seen.inference_count, seen.execution_count) == (3, 2)
    assert seen.most_pending == 5
