"""A stop while streams and short requests share kept-alive connections: no request is lost."""

import asyncio
import socket
import time
from typing import Any

import pytest

from service.api.server import _CANCEL_SECONDS
from tests.unit.http_application import Application, running, terminate

pytestmark = pytest.mark.looptime(False)  # real sockets and signals

GRACE = 1
"""Seconds; the default of `running`."""
LONG = 120
"""Seconds that no answer takes, however busy the machine is."""


class Mixed(Application):
    """Answers /stream in pieces, /flood without end, and all else as its base does."""

    async def _answer(self, send: Any, status: int, body: bytes, *headers: Any) -> None:
        path = dict(headers).get(b"x-path", b"")
        if path not in (b"/stream", b"/flood"):
            await super()._answer(send, status, body, *headers)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece, count = (b"x" * 65_536, 10**9) if path == b"/flood" else (b"piece", 20)
        for _ in range(count):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0 if path == b"/flood" else 0.02)
        await send({"type": "http.response.body", "body": b""})


def asked(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read a whole answer and return its head; raise IncompleteReadError for one that is lost."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    else:
        await reader.readexactly(4)
    return head


async def ask_until_told_to_close(port: int, client: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count, head = 0, b""
    while b"connection: close" not in head:
        writer.write(asked(b"/stream" if (count + client) % 3 == 0 else b"/short"))
        head = await read_answer(reader)
        assert head.startswith(b"http/1.1 200")
        count += 1
    assert await reader.read() == b""
    writer.close()
    return count


@pytest.mark.parametrize("after", [0.15, 0.3, 0.45])
async def test_no_request_is_lost_at_a_stop(after: float) -> None:
    async with running(Mixed(), LONG) as (port, serving):
        clients = [asyncio.create_task(ask_until_told_to_close(port, n)) for n in range(12)]
        await asyncio.sleep(after)
        assert not any(client.done() for client in clients)
        terminate()
        assert min(await asyncio.gather(*clients)) >= 1
        await serving


async def test_a_connection_of_a_stream_gets_one_more_request_answered() -> None:
    async with running(Mixed(), LONG) as (port, serving):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked(b"/stream"))
        head = await reader.readuntil(b"\r\n\r\n")
        terminate()
        await reader.readuntil(b"0\r\n\r\n")
        assert b"connection: close" not in head
        await asyncio.sleep(0.1)  # the client thinks
        writer.write(asked(b"/short"))
        assert b"connection: close" in await read_answer(reader)
        writer.close()
        await serving


async def test_pipelined_requests_are_all_answered_at_a_stop() -> None:
    async with running(app := Mixed(may_answer=False), LONG) as (port, serving):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked(b"/short") * 300)
        await app.asked.acquire()
        terminate()
        await asyncio.sleep(0.3)
        app.may_answer.set()
        heads = [await read_answer(reader) for _ in range(300)]
        assert [b"connection: close" in head for head in heads] == [False] * 299 + [True]
        writer.close()
        await serving


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(asked(b"/flood"), id="a stream that is not read"),
        pytest.param(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf", id="half a body"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nhos", id="half a head"),
        pytest.param(asked(b"/stuck"), id="a handler that is stuck"),
    ],
)
async def test_a_stop_waits_for_nothing_without_end(sent: bytes) -> None:
    app = Mixed(may_answer=b"stuck" not in sent)
    async with running(app) as (port, serving):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(sent)
        await asyncio.sleep(0.3)
        started = time.monotonic()
        terminate()
        await serving
        assert time.monotonic() - started < GRACE + _CANCEL_SECONDS + 60
        client.close()
    assert app.events[-2:] == ["last", "stopped"]
