"""The Redis level against servers that answer with more than anybody asked for."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from service.cache.redis import RedisBackend
from service.cache.replies import MAX_VALUE
from tests.integration.redis_observation import (
    dropped,
    eventually,
    found,
    lookups,
    options,
    stored,
    timed_get,
)
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.looptime(False), pytest.mark.redis]

_FLOOD = 50_000_000

HOSTILE: dict[str, bytes] = {
    "a list of 2 ** 31": b"*2147483647\r\n",
    "a list of 50 million": b"*50000000\r\n",
    "lists in lists": b"*1\r\n" * 1_000_000,
    "large lists in lists": b"*50000000\r\n" * 7,
    "a value of 10 GB": b"*1\r\n$10737418240\r\n",
    "a status without end": b"+" + b"a" * _FLOOD,
    "a number without end": b":" + b"7" * _FLOOD,
    "pushes": b">2\r\n+invalidate\r\n$1\r\na\r\n" * 1_000_000,
    "attributes": b"|1\r\n+a\r\n:1\r\n" * 1_000_000,
    "a map": b"%1000000000\r\n",
    "values of too much": b"*8\r\n" + (b"$%d\r\n%s\r\n" % (MAX_VALUE, bytes(MAX_VALUE))) * 8,
    "a number for a value": b"*1\r\n:5\r\n",
    "an error for a value": b"*1\r\n-ERR no\r\n",
    "replies to nothing": b"*1\r\n$-1\r\n" * 1_000_000,
}


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Run a server that answers what is said to it in its own way; yield its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            while heard := await reader.read(10_000):
                reply = memoryview(answer(heard))
                for start in range(0, len(reply), 1 << 16):
                    writer.write(reply[start : start + (1 << 16)])
                    await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)


def greeting(heard: bytes) -> bytes:
    return b"+OK\r\n" * heard.count(b"SETINFO")


@contextmanager
def bounded_costs() -> Iterator[None]:
    """Memory of Python's objects, and processor time: neither depends on a busy machine."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        seconds = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The server's own buffers count too: it runs in this process. A reply that is believed would
    # take gigabytes.
    assert peak < 200_000_000, "three connections with a reply of at most 16 MB each, and copies"
    assert seconds < 5, "some faults until the breaker opens, each of under 16 MB"


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
async def test_a_look_up_answered_with_too_much_is_a_miss_and_a_fault(reply: bytes) -> None:
    def answer(heard: bytes) -> bytes:
        if b"quartet:\r\n" in heard:  # the probe, but no real key
            return b"*1\r\n$-1\r\n"
        return reply if b"MGET" in heard else greeting(heard)

    async with (
        answering(answer) as url,
        RedisBackend(options(url, cool_down=60.0)) as backend,
    ):
        errors = lookups("error")
        with bounded_costs():

            async def left_alone() -> bool:
                value, _ = await timed_get(backend, "key")
                assert value is None
                return "breaker open" in repr(backend)

            await eventually(left_alone)
        assert lookups("error") > errors
        assert await backend.get("key") is None


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
async def test_a_greeting_answered_with_too_much_is_no_connection(reply: bytes) -> None:
    with bounded_costs():
        async with (
            answering(lambda heard: reply) as url,
            RedisBackend(options(url, io_timeout=0.3, cool_down=60.0)) as backend,
        ):

            async def left_alone() -> bool:
                return "0 of 2 readers ready, breaker open" in repr(backend)

            await eventually(left_alone)
            assert await backend.get("key") is None


async def test_a_second_reply_is_a_fault_and_never_the_answer_to_the_next_look_up() -> None:
    def answer(heard: bytes) -> bytes:
        twice = 1 if b"quartet:\r\n" in heard else 2
        return b"*1\r\n$-1\r\n" * twice if b"MGET" in heard else greeting(heard)

    async with (
        answering(answer) as url,
        RedisBackend(options(url, cool_down=60.0, max_faults=2)) as backend,
    ):

        async def left_alone() -> bool:
            assert await backend.get("key") is None
            return "breaker open" in repr(backend)

        await eventually(left_alone)


async def test_the_options_of_a_url_do_not_change_how_replies_are_read(
    redis_server: RedisServer,
) -> None:
    url = f"{redis_server.url}?protocol=3&decode_responses=True"
    async with RedisBackend(options(url)) as backend:
        await stored(backend, "key", b"value")


async def test_long_answers_are_read_back_and_one_too_long_is_not_written(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url, get_timeout=0.05)) as backend:
        await stored(backend, "long", bytes(MAX_VALUE - 1024))
        lost = dropped()
        await backend.set("too long", bytes(MAX_VALUE))
        assert dropped() - lost == 1
        assert await found(backend, "long") == bytes(MAX_VALUE - 1024)
