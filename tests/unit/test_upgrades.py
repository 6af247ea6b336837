"""An offered upgrade is not taken, and changes nothing else (RFC 9110, 7.8)."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.http_application import Application, answer, running

pytestmark = [pytest.mark.looptime(False), pytest.mark.usefixtures("quick_stop")]

H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
OFFERS = {
    "h2c": H2C,
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
    "TLS": b"upgrade: TLS/1.0\r\nconnection: Upgrade\r\n",
    "several": b"connection: keep-alive, Upgrade\r\nupgrade: h2c, websocket\r\nupgrade: foo/2\r\n",
    "an empty one": b"connection: upgrade\r\nupgrade:\r\n",
}
LENGTH, CHUNKED = b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"
BODIES = [
    pytest.param(b"", b"", b"", id="no body"),
    pytest.param(LENGTH, b"GET /", b"GET /", id="with a length"),
    pytest.param(CHUNKED, b"2\r\nGE\r\n3\r\nT /\r\n0\r\n\r\n", b"GET /", id="in chunks"),
    pytest.param(b"content-length: 31\r\n", NEXT, NEXT, id="a body that looks like a request"),
]


@pytest.fixture(params=[2, 100_000], ids=["cut in pieces", "whole"])
def size(request: pytest.FixtureRequest) -> int:
    """Return how many bytes are sent at once."""
    return int(request.param)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize(("framing", "sent", "body"), BODIES)
async def test_a_request_with_an_offer_is_answered_as_one_without(
    offer: bytes, framing: bytes, sent: bytes, body: bytes, size: int
) -> None:
    app = Application()
    data = b"POST /first HTTP/1.1\r\nhost: x\r\n" + offer + framing + b"\r\n" + sent + NEXT
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await asyncio.sleep(0)
        for _ in range(2):
            assert b"connection: close" not in await answer(reader)
        writer.close()
    assert app.asked_for == [("/first", body), ("/next", b"")]
    assert app.refused == []


@pytest.mark.parametrize("pause", [0.0, 0.2], ids=["at once", "in a second packet"])
async def test_a_body_after_an_offer_is_never_a_request(pause: float) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + H2C + b"content-length: 31\r\n\r\n")
        await asyncio.sleep(pause)
        writer.write(NEXT)
        await answer(reader)
        writer.close()
    assert app.asked_for == [("/", NEXT)]


async def test_many_offers_in_one_packet_are_all_answered() -> None:
    app = Application()
    head = b"POST /%d HTTP/1.1\r\nhost: x\r\n" + OFFERS["TLS"] + b"content-length: 2\r\n\r\nhi"
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(head % number for number in range(300)))
        for _ in range(300):
            await answer(reader)
        writer.close()
    assert app.asked_for == [(f"/{number}", b"hi") for number in range(300)]


async def test_an_offer_waits_for_100_continue_as_any_request() -> None:
    app = Application()
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n" + H2C + LENGTH + b"\r\n"
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"hello")
        await answer(reader)
        writer.close()
    assert app.asked_for == [("/", b"hello")]


async def test_an_offer_on_a_connection_that_ends_is_answered() -> None:
    app = Application()
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: h2c\r\n"
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + LENGTH + b"\r\nhello")
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert app.asked_for == [("/", b"hello")]


@pytest.mark.parametrize(
    "offers",
    [
        pytest.param([H2C + b"content-length: 2\r\ntransfer-encoding: chunked\r\n"], id="both"),
        pytest.param([H2C + b"transfer-encoding: gzip\r\n"], id="gzip"),
        pytest.param([H2C + b"host: y\r\n"], id="two hosts"),
    ],
)
async def test_an_offer_lets_nothing_through(offers: Sequence[bytes]) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + b"".join(offers) + b"\r\n" + NEXT)
        assert (await reader.read()).count(b"HTTP/1.1") == 1
        writer.close()
    assert len(app.refused) == 1
    assert app.asked_for == []


async def test_what_follows_connect_is_no_request() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT y:80 HTTP/1.1\r\nhost: y:80\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(NEXT)
        received = await reader.read()
        writer.close()
    assert received.count(b"HTTP/1.1") == received.count(b"connection: close") == 1
    assert [code for code, _ in app.refused] == ["not_implemented"]
    assert app.asked_for == []
