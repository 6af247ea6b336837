"""Requests that are not valid HTTP: each gets a refusal, and its connection ends."""

import asyncio
import logging

import pytest

from tests.unit.http_application import REQUEST, Application, answer, running

pytestmark = [pytest.mark.looptime(False), pytest.mark.usefixtures("quick_stop")]

MALFORMED, MISSING, VERSION = "malformed_request", "not_implemented", "http_version_not_supported"
TE, CL = b"transfer-encoding: ", b"content-length: "


def post(
    *headers: bytes, version: bytes = b"1.1", host: bytes = b"host: x", body: bytes = b""
) -> bytes:
    lines = [b"POST / HTTP/" + version, *([host] if host else []), *headers, b"", body]
    return b"\r\n".join(lines)


CHUNKED = b"2\r\nhi\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(post(host=b""), MALFORMED, id="no host"),
        pytest.param(post(b"host: y"), MALFORMED, id="two hosts"),
        pytest.param(post(b"host: x"), MALFORMED, id="the same host twice"),
        pytest.param(post(b"host: y", version=b"1.0"), MALFORMED, id="two hosts in 1.0"),
        pytest.param(post(host=b"host: a b"), MALFORMED, id="a host with a space"),
        pytest.param(post(host=b"host: a/b"), MALFORMED, id="a host with a path"),
        pytest.param(post(version=b"2.0"), VERSION, id="HTTP/2.0"),
        pytest.param(post(version=b"0.9"), VERSION, id="HTTP/0.9"),
        pytest.param(post(version=b"1.7"), MALFORMED, id="HTTP/1.7"),
        pytest.param(post(TE + b"gzip, chunked", body=CHUNKED), MISSING, id="gzip, chunked"),
        pytest.param(
            post(TE + b"gzip", TE + b"chunked", body=CHUNKED), MISSING, id="gzip and chunked"
        ),
        pytest.param(post(TE + b"gzip", body=b"hi"), MALFORMED, id="gzip"),
        pytest.param(post(TE + b"chunked, gzip", body=CHUNKED), MALFORMED, id="chunked, gzip"),
        pytest.param(post(TE + b"chunked, chunked", body=CHUNKED), MALFORMED, id="chunked twice"),
        pytest.param(post(TE + b"xchunked", body=CHUNKED), MALFORMED, id="xchunked"),
        pytest.param(post(TE + b"identity", body=b"hi"), MALFORMED, id="identity"),
        pytest.param(
            post(TE + b"chunked", version=b"1.0", body=CHUNKED), MALFORMED, id="chunked in 1.0"
        ),
        pytest.param(
            post(CL + b"2", TE + b"chunked", body=CHUNKED), MALFORMED, id="length, then chunked"
        ),
        pytest.param(
            post(TE + b"chunked", CL + b"2", body=CHUNKED), MALFORMED, id="chunked, then length"
        ),
        pytest.param(post(CL + b"2", CL + b"3", body=b"hi!"), MALFORMED, id="two lengths"),
        pytest.param(post(CL + b"2, 2", body=b"hi"), MALFORMED, id="a list of lengths"),
        pytest.param(post(CL + b"+2", body=b"hi"), MALFORMED, id="a signed length"),
        pytest.param(post(CL + b"-1", body=b"hi"), MALFORMED, id="a negative length"),
        pytest.param(post(CL + b"9" * 30), MALFORMED, id="a length of 30 digits"),
        pytest.param(post(b"content-length : 2", body=b"hi"), MALFORMED, id="a space in a name"),
        pytest.param(post(b" folded: x"), MALFORMED, id="a folded header"),
        pytest.param(post(b"x: a\x00b"), MALFORMED, id="a null character"),
        pytest.param(post(b"x: a\rb"), MALFORMED, id="a bare carriage return"),
        pytest.param(post(TE + b"chunked", body=b"zz\r\n"), MALFORMED, id="a chunk of no size"),
        pytest.param(post(TE + b"chunked", body=b"2\r\nhi!\r\n"), MALFORMED, id="a long chunk"),
        pytest.param(post(*[b"ab: c"] * 256), MALFORMED, id="too many headers"),
        pytest.param(
            post(TE + b"chunked", body=b"0\r\n" + b"ab: c\r\n" * 1000), MALFORMED, id="trailers"
        ),
        pytest.param(b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n", MALFORMED, id="no target"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", MALFORMED, id="bytes in the target"),
        pytest.param(b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", MALFORMED, id="an unknown method"),
        pytest.param(b"CONNECT y:1 HTTP/1.1\r\nhost: y:1\r\n\r\n", MISSING, id="CONNECT"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MALFORMED, id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", MALFORMED, id="TLS"),
        pytest.param(b"hello\r\n\r\n", MALFORMED, id="another protocol"),
    ],
)
async def test_what_is_not_valid_http_is_refused(
    sent: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent + REQUEST)  # what follows is not a request
        received = await reader.read()
        writer.close()
    assert [given for given, _ in app.refused] == [code]
    assert app.asked_for == []
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == received.count(b"connection: close") == 1
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_refusal_comes_after_the_answers_to_what_was_asked_before() -> None:
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + REQUEST + post(host=b""))
        await app.asked.acquire()
        app.may_answer.set()
        for _ in range(2):
            assert b"connection: close" not in await answer(reader)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
    assert len(app.refused) == 1


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(b"content-length: 2", version=b"1.0", host=b"", body=b"hi"), id="1.0"),
        pytest.param(post(b"content-length: 2", host=b"host:", body=b"hi"), id="an empty host"),
        pytest.param(
            post(b"content-length: 2", host=b"host: [::1]:80", body=b"hi"), id="an IPv6 address"
        ),
        pytest.param(post(TE + b"Chunked", body=CHUNKED), id="Chunked"),
        pytest.param(post(TE + b"chunked ", body=CHUNKED), id="chunked with a space"),
    ],
)
async def test_what_is_valid_http_is_answered(sent: bytes) -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await answer(reader)
        writer.close()
    assert app.asked_for == [("/", b"hi")]


async def test_trailers_are_not_headers() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(TE + b"chunked", body=b"0\r\nhost: y\r\nexpect: 100-continue\r\n\r\n"))
        await answer(reader)
        writer.write(REQUEST)
        await answer(reader)
        writer.close()
    assert app.asked_for == [("/", b""), ("/", b"hi")]


async def test_an_endless_head_is_refused_before_it_is_long() -> None:
    app = Application()
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"ab:c\r\n" * 2000)
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
    assert "headers" in app.refused[0][1]


async def test_a_trailer_that_ends_the_connection_is_told_of() -> None:
    # The parser reads nothing after it, so that a client would wait for its next answer in vain.
    app = Application(may_answer=False)
    async with running(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(TE + b"chunked", body=b"0\r\nconnection: close\r\n\r\n") + REQUEST)
        await app.asked.acquire()
        app.may_answer.set()
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert app.asked_for == [("/", b"")]
