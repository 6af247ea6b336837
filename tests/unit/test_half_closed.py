"""Clients that end their side of a connection: some wait for an answer, others have gone."""

import asyncio
import socket
import sys

import pytest

from tests.unit.http_application import REQUEST, Application, answer, running, until

pytestmark = [
    pytest.mark.looptime(False),  # real sockets
    pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the two apart"),
]

OLD = REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0")


@pytest.mark.parametrize("request_", [REQUEST, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("wait", [0.0, 0.3], ids=["answered at once", "answered later"])
async def test_a_client_that_only_ends_its_side_is_answered(request_: bytes, wait: float) -> None:
    app = Application(may_answer=not wait)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        writer.write_eof()
        await asyncio.sleep(wait)
        app.may_answer.set()
        head = await answer(reader)
        assert b"connection: close" in head or not wait  # or its end came after the answer
        assert head.count(b"http/1.1") == 1
        assert await reader.read() == b""
        writer.close()
    assert app.events.count("answered") == 1


async def test_all_that_was_asked_before_the_end_is_answered() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST * 3_000 + REQUEST[:-1])  # and the last is not complete
        writer.write_eof()
        for _ in range(3_000):
            await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert len(app.asked_for) == 3_000


async def test_a_request_that_is_not_complete_at_the_end_is_dropped() -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + REQUEST[:-1])
        await app.asked.acquire()
        writer.write_eof()
        await asyncio.sleep(0.1)
        app.may_answer.set()
        await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert len(app.asked_for) == 1


@pytest.mark.parametrize("sent", [b"", REQUEST[:20], REQUEST[:-1]])
async def test_a_client_that_ends_without_a_request_is_let_go(sent: bytes) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
    assert app.asked_for == []


@pytest.mark.parametrize("request_", [REQUEST, OLD], ids=["1.1", "1.0"])
@pytest.mark.parametrize("more", [0, 2], ids=["one request", "several"])
async def test_a_client_that_has_gone_is_noticed(request_: bytes, more: int) -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(request_ * (1 + more))
        await app.asked.acquire()
        (connection,) = app.server.server_state.connections
        cycle = connection._answering
        client.close()
        await until(lambda: not app.server.server_state.connections)
        assert cycle.disconnected
        app.may_answer.set()
    assert len(app.asked_for) == 1


async def test_a_stream_that_has_begun_goes_on_after_the_clients_end() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Streaming(Application):
        async def _answer(self, send, status, body, *headers):  # type: ignore[no-untyped-def]
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            begun.set()
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"two"})

    async with running(Streaming()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await begun.wait()
        writer.write_eof()
        await asyncio.sleep(0.1)
        go_on.set()
        received = await reader.read()
        writer.close()
    assert received.endswith(b"\r\n\r\n3\r\none\r\n03\r\ntwo\r\n0\r\n\r\n")
    assert received.count(b"HTTP/1.1") == 1
