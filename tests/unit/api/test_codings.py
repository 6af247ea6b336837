"""Bodies in gzip, deflate and zstd, and answers that are compressed."""

import gzip
import os
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import zstandard

from service.api.codings import preferred
from service.api.replies import Reply, compress

TEXT = b'{"text":"a"}'
LONG = {"text": ["abc" * 200] * 8}


def zstd(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def streamed(data: bytes, window_log: int) -> bytes:
    """Return a frame that does not say how long its content is."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(data) + compressor.flush()


SKIPPED = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


async def send(client: httpx.AsyncClient, path: str, body: bytes, coding: str) -> httpx.Response:
    headers = {"content-type": "application/json", "content-encoding": coding}
    return await client.post(path, content=body, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(zstd(TEXT), id="one frame"),
        pytest.param(streamed(TEXT, 20), id="of unknown length"),
        pytest.param(zstd(TEXT[:5]) + zstd(b"") + zstd(TEXT[5:]), id="concatenated"),
        pytest.param(SKIPPED + zstd(TEXT) + SKIPPED, id="with frames to skip"),
        pytest.param(zstd(TEXT, write_checksum=True), id="with a checksum"),
        pytest.param(streamed(TEXT, 23), id="the largest window"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embed"])
async def test_a_body_in_zstd_is_read(client: httpx.AsyncClient, body: bytes, path: str) -> None:
    response = await send(client, path, body, "zstd")
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(zstd(TEXT)[:-3], 400, id="truncated"),
        pytest.param(zstd(TEXT) + zstd(TEXT)[:-3], 400, id="truncated in its second frame"),
        pytest.param(zstd(TEXT) + b"more", 400, id="followed by something else"),
        pytest.param(streamed(TEXT, 27), 400, id="a window of 128 MiB"),
        pytest.param(zstd(b"") * 2_000, 400, id="thousands of frames"),
        pytest.param(gzip.compress(TEXT), 400, id="gzip"),
        pytest.param(b"", 400, id="empty"),
        pytest.param(zstd(b" " * 50_000_000), 413, id="bomb"),
        pytest.param(streamed(b" " * 50_000_000, 20), 413, id="bomb of unknown length"),
        pytest.param(zstd(b" " * 60_000) * 2, 413, id="too long in two frames"),
    ],
)
async def test_a_hostile_body_in_zstd_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    response = await send(client, "/v1/classify", body, "zstd")
    assert response.status_code == status, response.text
    assert response.json()["detail"]


PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompress(body),
}


async def raw(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> Any:
    """Return a response and its body as sent."""
    async with client.stream(method, path, **more) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


@pytest.mark.parametrize("coding", PLAIN)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/openapi.json"), ("GET", "/metrics"), ("POST", "/v1/translate")]
)
async def test_a_long_answer_is_compressed_when_asked_for(
    client: httpx.AsyncClient, coding: str, method: str, path: str
) -> None:
    body = LONG if method == "POST" else None
    if method == "POST":
        await client.post(path, json=body)  # the answer is in the cache from now on
    plain, expected = await raw(
        client, method, path, json=body, headers={"accept-encoding": "identity"}
    )
    response, packed = await raw(
        client, method, path, json=body, headers={"accept-encoding": f"{coding}, br"}
    )
    assert response.headers["content-encoding"] == coding
    assert response.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert int(response.headers["content-length"]) == len(packed) < len(expected)
    assert int(plain.headers["content-length"]) == len(expected)
    if path != "/metrics":  # it has counted the first one
        assert PLAIN[coding](packed) == expected
    head, _ = await raw(client, "HEAD", path, headers={"accept-encoding": coding})
    if method == "GET" and path != "/metrics":
        assert head.headers["content-length"] == response.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        pytest.param("/health/live", "gzip", id="short"),
        pytest.param("/page/samples/cards.jpg", "gzip", id="a picture"),
        pytest.param("/metrics", "br", id="in another coding"),
        pytest.param("/metrics", "gzip;q=0", id="not asked for"),
        pytest.param("/metrics", None, id="no header"),
    ],
)
async def test_other_answers_are_not_compressed(
    client: httpx.AsyncClient, path: str, accepted: str | None
) -> None:
    del client.headers["accept-encoding"]
    headers = {} if accepted is None else {"accept-encoding": accepted}
    response, _ = await raw(client, "GET", path, headers=headers)
    assert response.status_code == 200
    assert "content-encoding" not in response.headers


async def test_the_tag_of_a_compressed_file_is_weak_and_still_matches(
    client: httpx.AsyncClient,
) -> None:
    headers = {"accept": "text/html", "accept-encoding": "gzip"}
    first = await client.get("/", headers=headers)
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    again = await client.get("/", headers={**headers, "if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP ; Q=0.2", "gzip"),
        ("*", "gzip"),
        ("*;q=0, zstd", "zstd"),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=0.5, zstd;q=0.1", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0", None),
        ("gzip;q=0.000", None),
        ("gzip;q=nan", None),
        ("gzip;q=x", None),
        ("", None),
        (";;;,,,=q", None),
        ("gzip, " * 100, None),
    ],
)
def test_the_coding_that_a_client_prefers(accepted: str, coding: str | None) -> None:
    assert preferred(accepted.encode()) == (coding and coding.encode())


async def test_what_does_not_become_shorter_stays_as_it_is() -> None:
    noise = os.urandom(2_000)
    reply = Reply(noise, content_type=b"application/octet-stream")
    await compress(reply, b"gzip", 1024)
    assert reply.body == noise
    assert b"content-encoding" not in dict(reply.raw_headers)


async def test_compression_can_be_switched_off() -> None:
    reply = Reply(b" " * 2_000)
    await compress(reply, b"gzip", 0)
    assert len(reply.body) == 2_000
