"""Connections whose requests arrive together are served a few in each turn of the event loop."""

import asyncio
from itertools import pairwise

from service.api.turns import Turns


async def test_a_few_requests_begin_in_each_turn_and_the_others_in_order() -> None:
    turns, begun = Turns(), list[int]()
    at_once = 0
    for number in range(20):
        if turns.take():
            at_once += 1
        else:
            turns.ask(lambda number=number: begun.append(number))  # type: ignore[misc]
    assert 0 < at_once < 20
    while begun != list(range(at_once, 20)):
        before = len(begun)
        await asyncio.sleep(0)
        assert len(begun) - before <= at_once


async def test_a_connection_does_not_begin_before_those_that_wait() -> None:
    turns, begun = Turns(), list[str]()
    while turns.take():
        pass
    turns.ask(lambda: begun.append("first"))
    assert not turns.take()
    await asyncio.sleep(0)
    assert begun == ["first"]
    await asyncio.sleep(0)
    assert turns.take()


class Requests:
    """Requests of a fixed cost to the event loop, on a clock that only they and others move."""

    def __init__(self, turns: Turns, cost: float) -> None:
        self.turns, self.cost = turns, cost
        self.answered: list[float] = []
        self._tasks = set[asyncio.Task[None]]()

    def retry(self) -> None:
        """Begin, be refused, and ask again at once."""
        task = asyncio.get_running_loop().create_task(self._answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self) -> None:
        CLOCK.seconds += self.cost
        self.answered.append(asyncio.get_running_loop().time())
        self.turns.ask(self.retry, is_early=True)


class Clock:
    seconds = 0.0


CLOCK = Clock()


async def test_requests_that_retry_at_once_take_a_fifth_of_the_time_however_many_they_are() -> None:
    turns = Turns(lambda: CLOCK.seconds)
    clients = [Requests(turns, 0.001) for _ in range(200)]
    for client in clients:
        turns.ask(client.retry, is_early=True)
    await asyncio.sleep(10)
    spent = sum(len(client.answered) for client in clients) * 0.001
    # The loop's time stands still while they compute: a fifth of the time is a quarter of the rest.
    assert 2.4 <= spent <= 2.6
    counts = [len(client.answered) for client in clients]
    assert max(counts) - min(counts) <= 1


async def test_the_work_of_others_does_not_lengthen_the_pause() -> None:
    turns = Turns(lambda: CLOCK.seconds)
    client = Requests(turns, 0.001)

    def other() -> None:
        CLOCK.seconds += 1.0
        asyncio.get_running_loop().call_later(0.001, other)

    other()
    turns.ask(client.retry, is_early=True)
    await asyncio.sleep(1)
    assert len(client.answered) >= 200
    assert max(after - before for before, after in pairwise(client.answered)) < 0.01


async def test_an_error_does_not_end_the_turns_of_early_requests() -> None:
    turns, begun, errors = Turns(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def fails() -> None:
        raise ValueError

    turns.ask(fails, is_early=True)
    turns.ask(lambda: begun.append("second"), is_early=True)
    await asyncio.sleep(1)
    assert begun == ["second"]
    assert len(errors) == 1


async def test_others_begin_while_early_requests_pause() -> None:
    turns, begun = Turns(lambda: CLOCK.seconds), list[float]()
    client = Requests(turns, 1.0)
    turns.ask(client.retry, is_early=True)
    await asyncio.sleep(0.1)
    assert len(client.answered) == 1  # four seconds of pause
    assert turns.take()
    turns.ask(lambda: begun.append(asyncio.get_running_loop().time()))
    await asyncio.sleep(0)
    assert len(begun) == 1
