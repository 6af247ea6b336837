import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.client import Generator, Plan, Seen, arrivals, parse_head, report
from benchmarks.load import summarise
from benchmarks.target import Target

pytestmark = pytest.mark.looptime(False)

Answer = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def serving(answer: Answer, requests: list[bytes]) -> AsyncIterator[int]:
    """A server that keeps connections and answers each body; b"" closes the connection."""

    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                requests.append(head + body)
                reply = await answer(body)
                if not reply:
                    break
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*(task for task in connections if task))


def response(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def target(port: int, folder: Path, *bodies: bytes) -> Target:
    for number, body in enumerate(bodies, 1):
        (folder / str(number)).write_bytes(body)
    uncached = {"Cache-Control": "no-store"}
    return Target(port, "/v1/x", "application/json", folder, len(bodies), uncached)


async def test_a_closed_loop_keeps_the_asked_number_on_their_way(tmp_path: Path) -> None:
    now, most = 0, 0

    async def slow(body: bytes) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return response(200)

    requests: list[bytes] = []
    async with serving(slow, requests) as port:
        plan = Plan(target(port, tmp_path, b"a", b"b", b"c"), 0.3, concurrency=4)
        seen = await Generator(plan).run()
    assert most == 4
    assert seen.errors == 0
    assert len(seen.latencies[200]) == len(requests)
    assert min(seen.latencies[200]) >= 0.02
    assert {request[-1:] for request in requests} == {b"a", b"b", b"c"}


async def test_a_request_is_whole_and_has_its_headers(tmp_path: Path) -> None:
    async def at_once(body: bytes) -> bytes:
        return response(200)

    requests: list[bytes] = []
    async with serving(at_once, requests) as port:
        await Generator(Plan(target(port, tmp_path, b"{}"), 0.05, concurrency=1)).run()
    head = requests[0].decode()
    assert head.startswith("POST /v1/x HTTP/1.1\r\n")
    assert "\r\nCache-Control: no-store\r\n" in head
    assert "\r\nContent-Length: 2\r\n\r\n{}" in head


async def test_refusals_are_told_apart_from_answers(tmp_path: Path) -> None:
    async def by_body(body: bytes) -> bytes:
        return response(200 if body == b"a" else 429, body * 5000)  # more than one packet

    async with serving(by_body, []) as port:
        plan = Plan(target(port, tmp_path, b"a", b"b"), 0.2, concurrency=2)
        seen = await Generator(plan).run()
    answered, refused = len(seen.latencies[200]), len(seen.latencies[429])
    assert set(seen.latencies) == {200, 429}
    assert abs(answered - refused) <= 2


async def test_a_broken_connection_is_an_error_and_is_opened_again(tmp_path: Path) -> None:
    replies = iter([b"", response(200), b""])

    async def now_and_then(body: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return next(replies, response(200))

    async with serving(now_and_then, []) as port:
        seen = await Generator(Plan(target(port, tmp_path, b"a"), 0.3, concurrency=1)).run()
    assert seen.errors == 2
    assert len(seen.latencies[200]) >= 3


async def test_an_open_loop_does_not_wait_for_answers(tmp_path: Path) -> None:
    on_their_way: list[int] = []
    now = 0

    async def slow(body: bytes) -> bytes:
        nonlocal now
        now += 1
        on_their_way.append(now)
        await asyncio.sleep(0.1)
        now -= 1
        return response(200)

    requests: list[bytes] = []
    async with serving(slow, requests) as port:
        seen = await Generator(Plan(target(port, tmp_path, b"a"), 0.5, rate=200.0)).run()
    assert len(requests) == len(arrivals(200.0, 0.5, 0)) == len(seen.latencies[200])
    assert max(on_their_way) > 5


async def test_nobody_listening_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        seen = await Generator(Plan(target(1, tmp_path, b"a"), 0.1, rate=50.0)).run()
    assert seen.errors == len(arrivals(50.0, 0.1, 0)) > 0
    assert seen.latencies == {}


def test_a_plan_survives_its_way_to_the_other_process(tmp_path: Path) -> None:
    plan = Plan(Target(8000, "/v1/x", "image/jpeg", tmp_path, 3, {"A": "b"}), 2.0, rate=5.0, seed=3)
    assert Plan.loads(plan.dumps()) == plan


def test_what_was_seen_is_summed_up_by_status() -> None:
    seen = Seen({200: [0.1, 0.2], 429: [0.001]}, errors=1, seconds=2.0, cpu_seconds=0.5)
    load = summarise(json.dumps(report(seen)))
    assert load.rate == 1.0
    assert load.answered.most == 0.2
    assert load.refused[429].count == 1
    assert (load.errors, load.generator_cpu) == (1, 0.25)


def test_arrivals_are_as_many_as_asked_and_the_same_each_time() -> None:
    found = arrivals(1000.0, 2.0, seed=1)
    assert abs(len(found) - 2000) < 200
    assert found == sorted(found) == arrivals(1000.0, 2.0, seed=1)
    assert found[-1] < 2.0


def test_a_head_tells_status_length_and_end() -> None:
    assert parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 12") == (200, 12, False)
    assert parse_head(b"HTTP/1.1 429 X\r\nconnection: close\r\ncontent-length:0") == (429, 0, True)


def test_a_chunked_response_is_refused() -> None:
    with pytest.raises(ValueError, match="chunked"):
        parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
