"""SIGTERM while many clients ask without a pause: nothing that was sent is lost."""

import asyncio
import io
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from tests.lamps import Service, make_repository, serving

pytestmark = pytest.mark.looptime(False)  # a real process and real sockets

CLIENTS = 32
Behaviour = Callable[[int, Counter[str]], Coroutine[None, None, None]]


@pytest.fixture
def service(tmp_path: Path, processes: str) -> Iterator[Service]:
    make_repository(tmp_path / "repository")
    options = ("--server.grace-seconds", "5", "--server.processes", processes)
    with serving(tmp_path / "repository", *options) as service:
        yield service


def request(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), value % 256).save(file, "PNG")
    body = file.getvalue()
    return (
        b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
        b"cache-control: no-store\r\ncontent-length: %d\r\n\r\n" % len(body)
    ) + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, value: int) -> bytes:
    """Return the head of an answer, in lower case."""
    writer.write(request(value))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head


async def on_one_connection(port: int, outcomes: Counter[str]) -> None:
    """Ask again and again, as long as the answers do not say that the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b""
    for value in count():
        if b"connection: close" in head:
            break
        head = await ask(reader, writer, value)
        outcomes[head.split(b" ")[1].decode()] += 1
    writer.close()


async def on_a_connection_each(port: int, outcomes: Counter[str]) -> None:
    """Open a connection for every request, as long as a server listens."""
    for value in count():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            break
        head = await ask(reader, writer, value)
        outcomes[head.split(b" ")[1].decode()] += 1
        writer.close()


@pytest.mark.parametrize(("processes", "attempt"), [("1", 0), ("1", 1), ("2", 0)])
@pytest.mark.parametrize("behave", [on_one_connection, on_a_connection_each])
async def test_no_request_is_lost_when_the_service_stops(
    service: Service, behave: Behaviour, processes: str, attempt: int
) -> None:
    outcomes: Counter[str] = Counter()
    async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):  # one that is cut off raises, and the test fails
            clients.create_task(behave(service.port, outcomes))
        await asyncio.sleep(0.5 + 0.1 * attempt)
        service.process.send_signal(signal.SIGTERM)
    events = await asyncio.to_thread(service.wait)
    assert service.process.returncode == 0
    assert set(outcomes) == {"200"}
    assert outcomes["200"] >= CLIENTS
    assert {event["level"] for event in events} == {"info"}
