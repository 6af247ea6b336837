"""How connections are accepted, and on which addresses."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from prometheus_client import REGISTRY

from service import listening
from service.listening import Acceptor, AddressError, bind
from tests.unit.http_application import until

pytestmark = pytest.mark.looptime(False)  # real sockets


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def held_back() -> float:
    return REGISTRY.get_sample_value("http_accepts_held_back_total") or 0.0


@contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """Let the process open only so many more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/dev/fd").iterdir())
    fillers = [os.dup(0)]
    while fillers[-1] < highest:  # numbers below are free
        fillers.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for filler in fillers:
            os.close(filler)


async def echoed(client: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        await loop.sock_sendall(client, b"hi")
        return await loop.sock_recv(client, 10)


def connected(listener: socket.socket, count: int) -> list[socket.socket]:
    listener.listen(64)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(count)]
    for client in clients:
        client.setblocking(False)
    return clients


async def without_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    before = held_back()
    (listener,) = bind("127.0.0.1", 0)
    clients = connected(listener, 30)
    with few_descriptors(25):
        acceptor = Acceptor(listener, 64, Echo)
        answered = [asyncio.create_task(echoed(client)) for client in clients]
        await until(lambda: held_back() > before)
        await asyncio.sleep(3 * listening._PAUSE_SECONDS)
        waiting = [task for task in answered if not task.done()]
        assert waiting  # neither answered nor cut off
        os.close(os.dup(0))  # a model could still be read
        assert sum("wait to be accepted" in one.message for one in caplog.records) == 1
        for client, task in zip(clients, answered, strict=True):
            if task not in waiting:
                client.close()
        async with asyncio.timeout(5):
            assert set(await asyncio.gather(*answered)) == {b"hi"}
        for client in clients:
            client.close()
        await acceptor.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_without_file_descriptors_clients_wait_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loop: object
) -> None:
    monkeypatch.setattr(listening, "_PAUSE_SECONDS", 0.05)
    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(without_descriptors(caplog))


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("::", {"127.0.0.1", "::1"}),
        ("::1", {"::1"}),
    ],
)
async def test_an_address_is_listened_on_for_those_it_stands_for(
    host: str, reached: set[str]
) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    acceptors = [Acceptor(one, 16, Echo) for one in bind(host, 0)]
    port = acceptors[0].listener.getsockname()[1]
    found = set()
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"hi")
            assert await reader.readexactly(2) == b"hi"
            writer.close()
            found.add(address)
    for acceptor in acceptors:
        await acceptor.close()
    assert found == reached


async def test_an_address_that_is_taken_after_it_was_bound_is_named() -> None:
    (first,) = bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    (second,) = bind("127.0.0.1", port)
    acceptor = Acceptor(first, 16, Echo)
    with second, pytest.raises(AddressError, match=f"cannot listen on 127.0.0.1:{port}: "):
        Acceptor(second, 16, Echo)
    await acceptor.close()


async def test_all_addresses_of_a_name_have_the_same_port() -> None:
    listeners = bind("localhost", 0)
    assert len({one.getsockname()[1] for one in listeners}) == 1
    for one in listeners:
        one.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_named(host: str) -> None:
    (taken,) = bind("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with taken, pytest.raises(AddressError) as caught:
        bind(host, port)
    assert str(caught.value) == f"cannot listen on {host}:{port}: address already in use"


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(AddressError, match=r"^cannot listen on no\.such\.host\.invalid:80: "):
        bind("no.such.host.invalid", 80)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
