import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.api import listening
from service.api import server as server_module
from tests.unit.http_application import REQUEST, Application, answer, running, terminate

pytestmark = pytest.mark.looptime(False)  # real sockets and signals


async def test_a_connection_carries_several_requests_until_the_stop() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(REQUEST)
            assert b"connection: close" not in await answer(reader)
        writer.close()
    assert app.events == ["answered", "answered", "last", "stopped"]


@pytest.mark.parametrize("parts", [(REQUEST,), (REQUEST[:-2], REQUEST[-2:])])
async def test_the_application_is_told_whether_all_of_the_body_has_come(
    parts: Sequence[bytes],
) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.2)
        await answer(reader)
        writer.close()
    assert app.found_whole_bodies == [len(parts) == 1]


async def test_a_stop_without_connections_is_quick() -> None:
    started = time.monotonic()
    async with running(Application()):
        pass
    assert time.monotonic() - started < 60


async def test_sigterm_finishes_what_was_accepted_and_says_that_it_was_the_last() -> None:
    app = Application(may_answer=False)
    async with running(app, 60) as (port, serving):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await app.asked.acquire()
        terminate()
        await asyncio.sleep(0.3)
        assert not serving.done()
        app.may_answer.set()
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert app.events == ["answered", "last", "stopped"]


async def test_sigterm_stops_listening() -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await app.asked.acquire()
        terminate()
        await asyncio.sleep(0.3)
        with pytest.raises(OSError, match=f"{port}"):
            await asyncio.open_connection("127.0.0.1", port)
        app.may_answer.set()
        await answer(reader)
        writer.close()


async def test_a_request_on_its_way_on_an_idle_connection_is_still_answered() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await answer(reader)
        terminate()
        await asyncio.sleep(0.3)  # the server has begun to stop
        writer.write(REQUEST)
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_only_the_system_has_accepted_is_still_answered() -> None:
    app = Application()
    async with running(app) as (port, _):
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for client in clients:
            client.sendall(REQUEST)
        await app.server.shutdown()  # begins before the loop can accept anybody
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            client.close()
    assert app.events.count("answered") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters a listener's packets")
async def test_who_begins_to_connect_during_a_stop_is_refused_and_never_cut_off() -> None:
    app = Application()
    async with running(app) as (port, _):
        stop = asyncio.create_task(app.server.shutdown())
        await asyncio.sleep(0)  # it has begun, and still listens
        client = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(listening._HANDSHAKE_SECONDS / 2)
        assert not client.done()
        await stop
        with pytest.raises(ConnectionRefusedError):
            await client


async def test_what_outlasts_the_grace_is_cancelled() -> None:
    app = Application(may_answer=False)
    started = time.monotonic()
    async with running(app) as (port, serving):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await app.asked.acquire()
        terminate()
        await serving
        assert b"done" not in await reader.read()
        writer.close()
    assert 1 <= time.monotonic() - started < 60
    assert app.events == ["last", "stopped"]


@pytest.mark.parametrize(
    ("opening", "more"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nx: ", b"a" * 4096, id="a header without end"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 500, id="headers without end"),
        pytest.param(b"GET /", b"a" * 4096, id="an address without end"),
        pytest.param(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x: y\r\n" * 500,
            id="trailers without end",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;",
            b"x" * 4096,
            id="a chunk's extension without end",
        ),
    ],
)
async def test_a_head_without_end_is_refused(opening: bytes, more: bytes) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(opening)
        for _ in range(200):
            writer.write(more)
        received = await reader.read(20)
        assert received.startswith(b"HTTP/1.1 400")
        writer.transport.abort()
    assert "answered" not in app.events


async def test_a_large_body_in_small_chunks_is_not_taken_for_a_head() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"1\r\nx\r\n" * 50_000)
        writer.write(b"0\r\n\r\n")
        await answer(reader)
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
        )
        await answer(reader)
        writer.close()


async def test_many_requests_on_one_connection_are_not_taken_for_a_head() -> None:
    app = Application()
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 20_000 + b"\r\ncontent-length: 0\r\n\r\n"
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            writer.write(head)
            await answer(reader)
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST / HT"])
async def test_a_client_that_never_finishes_its_head_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "_SWEEP_TICKS", 1)
    async with running(Application()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()


async def test_a_client_that_waits_for_its_answer_is_not_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "_HEAD_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "_SWEEP_TICKS", 1)
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await asyncio.sleep(0.5)
        app.may_answer.set()
        await answer(reader)
        await asyncio.sleep(0.5)  # idle between two requests: that is another limit
        writer.write(REQUEST)
        await answer(reader)
        writer.close()


async def test_an_answer_to_head_is_its_head() -> None:
    async with running(Application()) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"content-length: 4" in await reader.readuntil(b"\r\n\r\n")
        writer.write(REQUEST)
        await answer(reader)
        writer.close()


PROGRAM = """
import sys
from service.api.listening import bind
from service.api.server import ServerOptions, run_server

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})

listeners = bind("127.0.0.1", int(sys.argv[1]))
run_server(app, listeners, ServerOptions(16, 5, 5), lambda: print("last"))
"""


@pytest.mark.integration  # it starts a process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_process_that_was_told_to_stop_exits_with_0(number: signal.Signals) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _started(port, "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)")
    try:
        reader, writer = await _connection(port)
        writer.write(REQUEST)
        assert b"server:" not in await answer(reader)
        writer.close()
        process.send_signal(number)
        output, _ = await asyncio.to_thread(process.communicate, timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert output == b"last\n"


@pytest.mark.integration  # it starts a process
async def test_the_end_of_a_terminal_is_ignored_under_nohup() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _started(port, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    try:
        reader, writer = await _connection(port)
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            writer.write(REQUEST)
            await answer(reader)
        writer.close()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.communicate, timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0


def _started(port: int, before: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, str(port)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


async def _connection(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(120):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
