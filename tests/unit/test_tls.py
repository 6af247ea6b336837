"""Connections over TLS, on the event loop of the service and on asyncio's."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import REGISTRY

from service.api import listening, tls_transport
from service.api import server as server_module
from service.api.certificate import Certificate
from tests.unit.http_application import REQUEST, Application, answer, running, terminate, until
from tests.unit.tls_files import TlsFiles

pytestmark = [
    pytest.mark.looptime(False),  # real sockets
    pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop]),
]

Loop = Callable[[], asyncio.AbstractEventLoop]
LARGE = 8_000_000
CLOSING = REQUEST.replace(b"host: x", b"host: x\r\nconnection: close")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return TlsFiles(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transport, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(listening, "_TLS_PATIENCE", 0.1)


class LargeAnswers(Application):
    """Answers with more than any buffer between the two holds."""

    async def _answer(self, send: Any, status: int, body: bytes, *headers: Any) -> None:
        await super()._answer(send, status, body * (LARGE // 4), *headers)


def run(loop: Loop, test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test)


class Silent:
    """A client that never sends close_notify, and reads only when asked to."""

    def __init__(self, port: int, files: TlsFiles) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.socket.setblocking(False)
        self._into, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = files.client().wrap_bio(self._into, self._out, server_hostname="localhost")

    async def _until_done(self, act: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                result = None
            if sent := self._out.read():
                await loop.sock_sendall(self.socket, sent)
            if result is not None:
                return result
            self._into.write(await loop.sock_recv(self.socket, 65_536))

    async def ask(self, request: bytes) -> None:
        await self._until_done(lambda: self._tls.do_handshake() or True)
        await self._until_done(lambda: self._tls.write(request))

    async def read(self) -> bytes:
        """Return the next bytes; none after the server's close_notify."""
        return await self._until_done(lambda: self._tls.read(65_536)) or b""

    async def end(self) -> None:
        """Wait for the end of the connection below TLS."""
        loop = asyncio.get_running_loop()
        with self.socket:
            while await loop.sock_recv(self.socket, 65_536):
                pass


def certificate(files: TlsFiles) -> Certificate:
    return Certificate(files.chain, files.key)


def connect(port: int, files: TlsFiles) -> Any:
    return asyncio.open_connection("localhost", port, ssl=files.client())


def test_requests_are_answered_one_by_one_and_pipelined(loop: Loop, files: TlsFiles) -> None:
    async def test() -> None:
        app = Application()
        async with running(app, certificate=certificate(files)) as (port, _):
            reader, writer = await connect(port, files)
            for together in (1, 1, 300):
                writer.write(REQUEST * together)
                for _ in range(together):
                    await answer(reader)
            writer.close()
        assert len(app.asked_for) == 302

    run(loop, test())


def test_what_is_no_handshake_is_closed_and_counted(loop: Loop, files: TlsFiles) -> None:
    async def test() -> None:
        before = failures()
        async with running(Application(), certificate=certificate(files)) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            assert b"HTTP" not in await reader.read()
            writer.close()
            await until(lambda: failures() == before + 1)

    run(loop, test())


def failures() -> float:
    return REGISTRY.get_sample_value("tls_handshakes_failed_total") or 0


def test_a_handshake_has_a_time_limit(
    loop: Loop, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with running(Application(), certificate=certificate(files)) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()

    monkeypatch.setattr(listening, "_TLS_SECONDS", 0.1)
    run(loop, test())


def test_many_slow_handshakes_make_room_for_others(
    loop: Loop, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with running(Application(), certificate=certificate(files)) as (port, _):
            slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            reader, writer = await connect(port, files)
            writer.write(REQUEST)
            await answer(reader)
            writer.close()
            for one in slow:
                one.close()

    monkeypatch.setattr(listening, "_MOST_HANDSHAKES", 4)
    monkeypatch.setattr(listening, "_TLS_SECONDS", 600.0)
    run(loop, test())


def test_a_connection_ends_although_the_client_does_not_answer_its_close(
    loop: Loop, files: TlsFiles
) -> None:
    async def test() -> None:
        async with running(Application(), certificate=certificate(files)) as (port, _):
            client = Silent(port, files)
            await client.ask(CLOSING)
            assert b"done" in await client.read()
            await client.end()

    run(loop, test())


def test_a_stop_does_not_wait_for_idle_clients(loop: Loop, files: TlsFiles) -> None:
    async def test() -> None:
        async with running(Application(), 600, certificate(files)) as (port, serving):
            client = Silent(port, files)
            await client.ask(REQUEST)
            await client.read()
            half = socket.create_connection(("127.0.0.1", port))  # in its handshake
            await asyncio.sleep(0.1)
            terminate()
            await asyncio.wait_for(serving, 60)
            client.socket.close()
            half.close()

    run(loop, test())


def test_who_reads_slowly_receives_all_of_the_last_answer(loop: Loop, files: TlsFiles) -> None:
    async def test() -> None:
        async with running(LargeAnswers(), certificate=certificate(files)) as (port, _):
            client, received = Silent(port, files), 0
            await client.ask(CLOSING)
            await asyncio.sleep(0.5)  # the server has closed it long ago
            while part := await client.read():
                received += len(part)
            assert received > LARGE
            await client.end()

    run(loop, test())


@pytest.mark.parametrize("request_", [REQUEST, CLOSING], ids=["kept alive", "closing"])
def test_who_reads_nothing_is_disconnected(
    loop: Loop, files: TlsFiles, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        app = LargeAnswers()
        async with running(app, certificate=certificate(files)) as (port, _):
            client = Silent(port, files)
            await client.ask(request_)
            await until(lambda: app.events == ["answered"])
            assert app.server.server_state.connections
            await until(lambda: not app.server.server_state.connections)
            client.socket.close()

    monkeypatch.setattr(server_module, "_UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(server_module, "_SWEEP_TICKS", 1)
    run(loop, test())


def test_a_client_that_ends_its_side_has_left(loop: Loop, files: TlsFiles) -> None:
    async def test() -> None:
        app = Application(may_answer=False)
        async with running(app, certificate=certificate(files)) as (port, _):
            _, writer = await connect(port, files)
            writer.write(REQUEST)
            await app.asked.acquire()
            writer.close()
            await until(lambda: not app.server.server_state.connections)
            app.may_answer.set()

    run(loop, test())


def test_a_new_certificate_does_not_end_connections(
    loop: Loop, files: TlsFiles, tmp_path: Path
) -> None:
    async def test() -> None:
        mine = TlsFiles(tmp_path)
        pair = certificate(mine)
        async with running(Application(), certificate=pair) as (port, _):
            old = await connect(port, mine)
            mine.renew()
            for _ in range(2):
                await pair.look()
            new = await connect(port, mine)
            shown = [
                writer.get_extra_info("ssl_object").getpeercert(True) for _, writer in (old, new)
            ]
            assert shown[0] != shown[1]
            for reader, writer in (old, new):
                writer.write(REQUEST)
                await answer(reader)
                writer.close()

    run(loop, test())
