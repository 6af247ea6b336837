"""Keys on a real server: a file that changes under load, and a flood next to a quiet client."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.access.keys_file import digest_of
from tests.integration.real_service import RealService, real_service

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

LONGEST = 60.0


def entry(name: str, *lines: str) -> str:
    return "\n".join((f"[keys.{name}]", f'sha256 = "{digest_of(name.encode()).hex()}"', *lines, ""))


BASE = entry("steady") + entry("flood") + entry("quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[RealService]:
    file = folder / "keys.toml"
    file.write_text(BASE)
    options = (
        "--models.only=news-topics",
        f"--access.keys-file={file}",
        "--batching.max-queue-size=32",
        "--server.host=0.0.0.0",
    )
    with real_service(folder, *options) as running:
        yield running


def asking(service: RealService, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=200)
    return httpx.AsyncClient(
        base_url=service.url, headers={"X-API-Key": key}, timeout=LONGEST, limits=limits
    )


async def classify(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post(
        "/v1/classify", json={"text": text}, headers={"Cache-Control": "no-store"}
    )


async def metric(service: RealService, name: str) -> float:
    async with httpx.AsyncClient(timeout=LONGEST) as client:
        text = (await client.get(f"{service.url}/metrics")).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return float(lines[name])


async def status_of(service: RealService, key: str) -> int:
    async with asking(service, key) as client:
        return (await client.get("/v1/models")).status_code


async def until_status(service: RealService, key: str, status: int) -> None:
    async with asyncio.timeout(LONGEST):
        while await status_of(service, key) != status:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_broken(service: RealService, is_broken: bool) -> None:
    async with asyncio.timeout(LONGEST):
        while await metric(service, "access_keys_file_broken") != is_broken:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def load(service: RealService, statuses: Counter[int]) -> None:
    async with asking(service, "steady") as client:
        while True:
            response = await classify(client, f"text {statuses.total()}")
            statuses[response.status_code] += 1


async def test_the_file_changes_breaks_and_is_repaired_under_load(
    service: RealService, folder: Path
) -> None:
    file, statuses = folder / "keys.toml", Counter[int]()
    clients = [asyncio.create_task(load(service, statuses)) for _ in range(8)]
    await until_status(service, "late", 401)
    file.write_text(BASE + entry("late"))
    await until_status(service, "late", 200)
    for spoil in (lambda: file.write_text("[keys.broken"), file.unlink):
        spoil()
        await until_broken(service, True)
        assert await status_of(service, "late") == 200
        file.write_text(BASE + entry("late"))
        await until_broken(service, False)
    assert "the keys file cannot be used, the previous one stays in use" in service.log
    file.write_text(BASE)
    await until_status(service, "late", 401)
    for client in clients:
        client.cancel()
    results = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert set(statuses) == {200}
    assert "no keys are set" not in service.log


async def test_a_flood_of_one_key_does_not_shut_out_another(service: RealService) -> None:
    flood: Counter[int] = Counter()

    async def client_of_the_flood(client: httpx.AsyncClient, number: int) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                response = await classify(client, f"flood {number} of news about oil and stocks")
                flood[response.status_code] += 1

    async with asking(service, "flood") as many, asking(service, "quiet") as one:
        tasks = [asyncio.create_task(client_of_the_flood(many, n)) for n in range(120)]
        async with asyncio.timeout(LONGEST):
            while not flood[429]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        quiet = [(await classify(one, f"quiet {n}")).status_code for n in range(40)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
    assert set(quiet) == {200}
    assert set(flood) == {200, 429}


def test_a_start_for_others_without_keys_is_warned_about(tmp_path: Path) -> None:
    options = ("--models.only=news-topics", "--server.host=0.0.0.0")
    with real_service(tmp_path, *options) as running:
        assert "no keys are set" in running.log
        assert httpx.get(f"{running.url}/v1/models", timeout=LONGEST).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff\xfe\xfd",
        b"Authorization: Bearer " + b"A" * 60_000,
        b"Authorization:",
        b"Authorization: Bearer steady\x00",
        b"X-API-Key: steady\x0bquiet",
        b"X-API-Key: steady, quiet",
        b"X-API-Key: 'or 1=1--",
        b"Authorization: Basic c3RlYWR5OnN0ZWFkeQ==",
    ],
)
async def test_hostile_keys_are_refused_and_the_next_request_is_answered(
    service: RealService, header: bytes
) -> None:
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n%b\r\nConnection: close\r\n\r\n" % header
    writer.write(head)
    status = int((await reader.read()).split(b" ", 2)[1])
    writer.close()
    assert status in (400, 401, 431)
    assert await status_of(service, "steady") == 200
