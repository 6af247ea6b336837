"""Replies of Redis, whole, in pieces, and beyond every bound."""

import asyncio
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from service.cache.replies import MAX_ITEMS, MAX_LINE, MAX_REPLY, MAX_VALUE, BoundedParser
from tests.sentences import sentence


def parser_of(data: bytes, ends: bool = True) -> BoundedParser:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    if ends:
        stream.feed_eof()
    parser = BoundedParser(65536)
    parser.on_connect(SimpleNamespace(_reader=stream))  # type: ignore[arg-type]
    return parser


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", b"OK"),
        (b":-12\r\n", -12),
        (b"$5\r\na\r\nbc\r\n", b"a\r\nbc"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", [b"a", None, 7]),
    ],
)
async def test_a_reply_is_read(data: bytes, reply: object) -> None:
    assert await parser_of(data).read_response() == reply


async def test_a_reply_in_pieces_is_one_reply_and_the_next_begins_after_it() -> None:
    parser = parser_of(b"", ends=False)
    asking = asyncio.create_task(parser.read_response())
    for byte in b"*2\r\n$3\r\nabc\r\n$-1\r\n+OK\r\n":
        await asyncio.sleep(0)
        parser._stream_or_raise().feed_data(bytes([byte]))
    assert await asking == [b"abc", None]
    assert await parser.read_response() == b"OK"


async def test_errors_are_what_redis_py_calls_them() -> None:
    refused = await parser_of(b"*1\r\n-ERR no\r\n").read_response()
    assert isinstance(refused, list)
    assert isinstance(refused[0], ResponseError)
    with pytest.raises(BusyLoadingError):
        await parser_of(b"-LOADING soon\r\n").read_response()


async def test_the_longest_value_is_read_and_one_byte_more_is_not() -> None:
    longest = b"$%d\r\n%s\r\n" % (MAX_VALUE, bytes(MAX_VALUE))
    assert await parser_of(longest).read_response() == bytes(MAX_VALUE)
    with pytest.raises(InvalidResponse, check=sentence):
        await parser_of(b"$%d\r\n" % (MAX_VALUE + 1)).read_response()


BEYOND: dict[str, bytes] = {
    "a list of 2 ** 31": b"*2147483647\r\n",
    "a list of one too many": b"*%d\r\n" % (MAX_ITEMS + 1) + b"$-1\r\n" * (MAX_ITEMS + 1),
    "a list of a number beyond 64 bits": b"*" + b"9" * 30 + b"\r\n",
    "a list of -2": b"*-2\r\n",
    "a list of lists": b"*1\r\n" * 100_000,
    "a list of a list without end": b"*1\r\n*2147483647\r\n",
    "a value of 10 GB": b"$10737418240\r\n",
    "a value of 10 GB in a list": b"*1\r\n$10737418240\r\n",
    "values of too much together": (
        b"*8\r\n" + (b"$%d\r\n%s\r\n" % (MAX_VALUE, bytes(MAX_VALUE))) * (MAX_REPLY // MAX_VALUE)
        + b"$1\r\na\r\n"
    ),
    "a value of -2": b"$-2\r\n",
    "a length that is no number": b"$0x10\r\n",
    "a length with a sign": b"$+3\r\nabc\r\n",
    "a length with an underscore": b"$1_0\r\n0123456789\r\n",
    "a value longer than was said": b"$1\r\nabc\r\n",
    "a number of a million digits": b":" + b"1" * 1_000_000 + b"\r\n",
    "a number of 60 digits": b":" + b"1" * 60 + b"\r\n",
    "a status that does not end": b"+" + b"a" * 1_000_000,
    "a long status": b"+" + b"a" * MAX_LINE + b"\r\n",
    "a long error": b"-ERR " + b"a" * MAX_LINE + b"\r\n",
    "an empty line": b"\r\n",
    "a push of version 3": b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n",
    "a map of version 3": b"%2147483647\r\n",
    "a set of version 3": b"~2147483647\r\n",
    "attributes of version 3": b"|1\r\n+ttl\r\n:3600\r\n$1\r\na\r\n",
    "a big number of version 3": b"(" + b"1" * 500 + b"\r\n",
    "a verbatim text of version 3": b"=15\r\ntxt:Some string\r\n",
    "a streamed text of version 3": b"$?\r\n;4\r\nHell\r\n",
    "a double of version 3": b",1.5\r\n",
    "a null of version 3": b"_\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", BEYOND.values(), ids=BEYOND)
async def test_what_is_beyond_a_bound_is_refused_before_memory_is_taken_for_it(data: bytes) -> None:
    parser = parser_of(data, ends=False)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidResponse):
            await parser.read_response()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_REPLY if b"*8" in data else peak < 1_000_000


@pytest.mark.parametrize("data", [b"", b"*2\r\n$1\r\na\r\n", b"$5\r\nab", b"+O"])
async def test_a_reply_cut_short_says_that_the_connection_is_closed(data: bytes) -> None:
    with pytest.raises(RedisConnectionError):
        await parser_of(data).read_response()


async def test_it_knows_a_closed_connection_and_what_was_not_asked_for() -> None:
    assert not await parser_of(b"", ends=False).can_read()
    assert await parser_of(b"").can_read()
    with pytest.raises(InvalidResponse, check=sentence):
        await parser_of(b"+OK\r\n", ends=False).can_read()
    parser: Any = parser_of(b"+OK\r\n")
    parser.on_disconnect()
    with pytest.raises(OSError, check=sentence):
        await parser.can_read()
    with pytest.raises(RedisConnectionError):
        await parser.read_response()
