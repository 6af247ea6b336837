"""Requests sent before earlier ones are answered: in order, in bounds, and none lost."""

import asyncio
import contextlib
import socket

import pytest

from service.api.connection import Protocol
from service.api.turns import Act, Turns
from tests.unit.http_application import REQUEST, Application, answer, running, until

pytestmark = [pytest.mark.looptime(False), pytest.mark.usefixtures("quick_stop")]


def numbered(number: int, body: bytes = b"") -> bytes:
    head = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (number, len(body))
    return head + body


async def only_connection(app: Application) -> Protocol:
    await until(lambda: len(app.server.server_state.connections) == 1)
    (connection,) = app.server.server_state.connections
    assert isinstance(connection, Protocol)
    return connection


@pytest.mark.parametrize("size", [1, 777, 1_000_000], ids=["bytes", "pieces", "at once"])
@pytest.mark.parametrize("count", [3, 2_000])
async def test_pipelined_requests_are_answered_in_order(count: int, size: int) -> None:
    count = min(count, 100 * size)
    app = Application()
    data = b"".join(numbered(number, b"x" * (number % 50)) for number in range(count))

    async def send(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await asyncio.sleep(0)
            await writer.drain()

    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sending = asyncio.create_task(send(writer))
        for number in range(count):
            assert b"x-path: /%d\r\n" % number in await answer(reader)
        await sending
        writer.close()
    assert app.asked_for == [(f"/{n}", b"x" * (n % 50)) for n in range(count)]


async def test_large_bodies_among_pipelined_requests_arrive_whole() -> None:
    app = Application()
    sizes = [0, 300_000, 5, 70_000, 0, 2_048, 4_096, 1]
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, size in enumerate(sizes):
            writer.write(numbered(number, b"x" * size))
        for _ in sizes:
            await answer(reader)
        writer.close()
    assert [len(body) for _, body in app.asked_for] == sizes


@pytest.mark.parametrize("may_answer", [False, True], ids=["answers wait", "answers are unread"])
async def test_a_client_that_pipelines_and_does_not_read_is_not_read_either(
    may_answer: bool,
) -> None:
    app = Application(may_answer)
    path = b"/" + b"x" * (1_500 if may_answer else 0)  # the answer repeats it
    asked = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path * 1_000
    async with running(app) as (port, _):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        connection = await only_connection(app)
        sent, most_waiting, most_held = 0, 0, 0
        for _ in range(1_000):
            with contextlib.suppress(BlockingIOError):
                sent += client.send(asked)
            await asyncio.sleep(0.0005)
            most_waiting = max(most_waiting, len(connection.pipeline))
            most_held = max(most_held, len(connection.flow.held))
        assert most_waiting <= 100
        assert most_held <= 64 * 1024 + 256 * 1024  # an event loop's read beyond the bound
        assert connection.transport.get_write_buffer_size() <= 128 * 1024
        assert sent > most_held
        assert connection.flow.write_paused is may_answer
        client.close()
        app.may_answer.set()


async def test_a_client_that_reads_late_gets_all_its_answers() -> None:
    app = Application()
    count = 5_000
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        sending = asyncio.create_task(asyncio.sleep(0))
        data = b"".join(numbered(number) for number in range(count))
        writer.write(data)
        await sending
        await asyncio.sleep(0.5)  # by now it may no longer be read
        reader._limit = 2**16
        for number in range(count):
            assert b"x-path: /%d\r\n" % number in await answer(reader)
        writer.close()


async def test_a_connection_that_is_lost_takes_what_waits_along() -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST * 3)
        await app.asked.acquire()
        connection = await only_connection(app)
        first = connection._answering
        assert first is not None
        assert len(connection.pipeline) == 1
        assert connection.flow.held
        writer.transport.abort()
        await until(lambda: not app.server.server_state.connections)
        assert first.disconnected
        assert not connection.pipeline
        app.may_answer.set()
    assert len(app.asked_for) == 1


async def test_a_slow_head_behind_an_answer_keeps_its_connection() -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + REQUEST[:10])
        await app.asked.acquire()
        connection = await only_connection(app)
        connection.timeout_keep_alive = 0
        app.may_answer.set()
        await answer(reader)
        await asyncio.sleep(0.2)
        writer.write(REQUEST[10:])
        await answer(reader)
        writer.close()


async def test_clients_that_pipeline_do_not_hold_up_a_new_one() -> None:
    app = Application()
    async with running(app) as (port, _):
        flood = b"".join(numbered(1) for _ in range(1_000))
        hoggers = []
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(flood)
            hoggers.append((asyncio.create_task(reader.read(-1)), writer))
        await app.asked.acquire()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        before = len(app.asked_for)
        writer.write(numbered(2))
        await answer(reader)
        # All connections at once would be 40 in each turn of the event loop, and it takes several.
        assert len(app.asked_for) - before < 100
        assert len(app.asked_for) < 40 * 1_000
        writer.close()
        for reading, hogger in hoggers:
            reading.cancel()
            hogger.transport.abort()
        await asyncio.gather(*(reading for reading, _ in hoggers), return_exceptions=True)


async def test_a_body_of_tiny_chunks_is_parsed_in_several_turns_of_the_event_loop() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = await only_connection(app)
        parts = 0

        def received(data: bytes) -> None:
            nonlocal parts
            Protocol.data_received(connection, data)
            parts = max(parts, connection._parts)

        connection.data_received = received  # type: ignore[method-assign]
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        await answer(reader)
        writer.close()
    assert 0 < parts <= 1_000
    assert [len(body) for _, body in app.asked_for] == [50_000]


class RecordedTurns(Turns):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def ask(self, act: Act, is_early: bool = False) -> None:
        self.asked.append(is_early)
        super().ask(act, is_early)


@pytest.mark.parametrize("pipelined", [False, True])
async def test_a_request_soon_after_a_refusal_is_early_until_one_is_answered(
    pipelined: bool,
) -> None:
    app = Application()
    app.status = 429
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = await only_connection(app)
        connection.turns = turns = RecordedTurns()
        writer.write(REQUEST * (2 if pipelined else 1))
        await reader.readuntil(b"done")
        app.status = 200
        if not pipelined:
            writer.write(REQUEST)
        await answer(reader)
        assert turns.asked[-1]
        before = len(turns.asked)
        writer.write(REQUEST)
        await answer(reader)
        assert True not in turns.asked[before:]
        writer.close()


async def test_a_client_that_heeds_the_refusal_is_not_early() -> None:
    app = Application()
    app.status = 429
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = await only_connection(app)
        connection.turns = turns = RecordedTurns()
        writer.write(REQUEST)
        await reader.readuntil(b"done")
        await asyncio.sleep(1.1)  # Retry-After is a second
        writer.write(REQUEST)
        await reader.readuntil(b"done")
        assert not any(turns.asked)
        writer.close()
