"""The Redis level against servers that are slow, silent, locked, full, or no Redis at all."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.cache.link import NameLookup
from service.cache.redis import LONGEST_GET, RedisBackend
from tests.integration.redis_observation import (
    connected,
    dropped,
    eventually,
    found,
    inspected,
    longest_wait,
    measured_lag,
    options,
    stored,
    timed_get,
)
from tests.redis_server import RedisServer, free_port, redis_program
from tests.sentences import sentence

pytestmark = [pytest.mark.looptime(False), pytest.mark.redis]


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Run a TCP server with a configured reaction to each connection; yield its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await talk(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def hanging_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def too_few_values(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while heard := await reader.read(10_000):
        writer.write(b"*0\r\n" if b"MGET" in heard else b"+OK\r\n" * heard.count(b"SETINFO"))


@pytest.mark.parametrize("talk", [silence, nonsense, hanging_up, too_few_values])
async def test_a_server_that_does_not_speak_redis_costs_nothing(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async with (
        listening(talk) as url,
        RedisBackend(options(url, io_timeout=0.1)) as backend,
        measured_lag() as lag,
    ):
        assert await longest_wait(backend, callers=5, seconds=0.3) < 0.005 + lag.worst
        assert repr(backend).startswith("<RedisBackend 0 of 2 readers ready")


async def test_a_server_that_accepts_nobody_costs_nothing() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        crowd = [socket.socket() for _ in range(4)]  # fill the backlog: the next SYN is dropped
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(address)
        started = time.monotonic()
        url = f"redis://127.0.0.1:{address[1]}"
        async with RedisBackend(options(url, io_timeout=0.1)) as backend, measured_lag() as lag:
            assert time.monotonic() - started < 0.5
            assert await longest_wait(backend, callers=5, seconds=0.3) < 0.005 + lag.worst
        for one in crowd:
            one.close()


async def test_nobody_listening_costs_nothing() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with RedisBackend(options(url, io_timeout=0.1)) as backend, measured_lag() as lag:
        assert await longest_wait(backend, callers=5, seconds=0.3) < 0.005 + lag.worst


async def test_a_server_slower_than_the_budget_is_left_alone(redis_server: RedisServer) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", redis_server.port)
        while heard := await reader.read(10_000):
            back.write(heard)
            reply = await there.read(10_000)
            await asyncio.sleep(0.06)
            writer.write(reply)
        back.close()

    async with (
        listening(slow) as url,
        RedisBackend(options(url, cool_down=60.0)) as backend,
        measured_lag() as lag,
    ):
        assert await longest_wait(backend, callers=5, seconds=0.5) < LONGEST_GET + lag.worst

        async def left_alone() -> bool:
            return "breaker open" in repr(backend)

        await eventually(left_alone)


async def test_a_server_that_connects_well_and_then_fails_is_left_alone_too() -> None:
    async def treacherous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(10_000):
            if b"SETINFO" in heard:
                writer.write(b"+OK\r\n" * heard.count(b"SETINFO"))
            if b"quartet:\r\n" in heard:  # the probe, but no real key
                writer.write(b"*1\r\n$-1\r\n")

    async with (
        listening(treacherous) as url,
        RedisBackend(options(url, cool_down=60.0)) as backend,
    ):
        slow = 0
        for number in range(40):
            _, waited = await timed_get(backend, f"{number}")
            slow += waited > 0.010
            await asyncio.sleep(0.01)
        assert "0 of 2 readers ready, breaker open" in repr(backend)
        assert slow <= 6, "three faults open it; the other reader's may come on top"


async def test_a_name_that_takes_long_to_resolve_costs_nothing_and_holds_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    tests_end = threading.Event()

    def hang(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        tests_end.wait(60)
        raise socket.gaierror("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    url = "redis://cache.invalid:6379"
    async with (
        RedisBackend(options(url, io_timeout=0.05, cool_down=0.05)) as backend,
        measured_lag() as lag,
    ):
        assert await longest_wait(backend, callers=5, seconds=0.5) < 0.005 + lag.worst
    tests_end.set()
    assert len(asked) == 1


async def test_a_name_is_asked_for_again_after_it_could_not_be_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror("nobody knows")

    names = NameLookup({"host": "localhost", "port": 6379})
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", fail)
        with pytest.raises(OSError, check=sentence):
            await names.resolve(1.0)
    await names.resolve(1.0)


async def test_a_unix_socket_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = RedisServer(redis_program(), tmp_path, "--unixsocket", str(path))
    try:
        async with RedisBackend(options(f"unix://{path}")) as backend:
            await stored(backend, "key", b"value")
    finally:
        server.kill()


async def test_a_wrong_password_is_a_miss_and_the_right_one_works(tmp_path: Path) -> None:
    server = RedisServer(redis_program(), tmp_path, "--requirepass", "right")
    try:
        for password in ("", ":wrong@"):
            url = f"redis://{password}127.0.0.1:{server.port}"
            async with RedisBackend(options(url, io_timeout=0.1)) as backend:
                assert await backend.get("key") is None
                assert "0 of 2 readers ready" in repr(backend)
        async with RedisBackend(options(f"redis://:right@127.0.0.1:{server.port}")) as backend:
            await stored(backend, "key", b"value")
            assert "right" not in repr(backend._options)
    finally:
        server.kill()


async def test_a_full_server_goes_on_answering_and_its_refusals_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(redis_program(), tmp_path)
    try:
        async with RedisBackend(options(server.url)) as backend:
            await stored(backend, "key", b"value")
            with inspected(server) as client:
                client.config_set("maxmemory", 1)
            lost = dropped()

            for sent in (1, 2, 3):
                await backend.set("another", b"value")

                async def is_counted(sent: int = sent) -> bool:
                    return dropped() - lost == sent

                await eventually(is_counted)
            assert await found(backend, "key") == b"value"
            await connected(backend)
        assert caplog.text.count("refuses to store") == 1
    finally:
        server.kill()
