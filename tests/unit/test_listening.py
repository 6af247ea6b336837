"""How connections are accepted, and on which addresses."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from service.api.listening import Acceptor, AddressError, bind
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # real sockets


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


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
    with second, pytest.raises(AddressError, check=sentence):
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
    with pytest.raises(AddressError, check=sentence):
        bind("no.such.host.invalid", 80)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
