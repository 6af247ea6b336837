"""Readers of events: each gets all of them, unless it is too slow. Time is virtual."""

from contextlib import ExitStack

import pytest

from service.errors import OverloadedError
from service.live.readers import MOST_READERS, Readers, Skipped


async def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    readers: Readers[int] = Readers()
    with readers.reading() as slow, readers.reading() as quick:
        events = quick.events(1.0)
        for number in range(100):
            readers.publish(number)
            assert await anext(events) == number
        readers.close()
        assert [event async for event in slow.events(1.0)] == [Skipped(36), *range(36, 100)]
        assert [event async for event in events] == []
    assert len(readers) == 0


async def test_silence_is_told() -> None:
    readers: Readers[int] = Readers()
    with readers.reading() as reader:
        events = reader.events(1.0)
        assert await anext(events) is None
        readers.publish(1)
        assert await anext(events) == 1


async def test_readers_are_bounded() -> None:
    readers: Readers[int] = Readers()
    with ExitStack() as stack:
        for _ in range(MOST_READERS):
            stack.enter_context(readers.reading())
        with pytest.raises(OverloadedError):
            stack.enter_context(readers.reading())
    with readers.reading():
        pass


async def test_who_comes_after_the_end_gets_the_end() -> None:
    readers: Readers[int] = Readers()
    readers.close()
    with readers.reading() as reader:
        assert [event async for event in reader.events(1.0)] == []
