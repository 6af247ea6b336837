"""Connections whose requests arrive together are served a few in each turn of the event loop."""

import asyncio

from service.api.exchange import Turns


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
