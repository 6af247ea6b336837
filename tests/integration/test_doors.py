"""A real server with TLS over HTTP and gRPC, whose certificate changes, and a Unix socket."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.real_service import RealService, real_service
from tests.redis_server import free_port
from tests.unit.tls_files import TlsFiles

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

LONGEST = 60.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return TlsFiles(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, files: TlsFiles) -> Iterator[RealService]:
    port = free_port()
    options = (
        "--models.only=news-topics",
        f"--server.grpc-port={port}",
        f"--server.tls-cert={files.chain}",
        f"--server.tls-key={files.key}",
        f"--server.unix-socket={files.key.with_name('socket')}",
    )
    with real_service(
        tmp_path_factory.mktemp("tls"), *options, authority=files.authority
    ) as running:
        running.grpc_address = f"localhost:{port}"
        yield running


def client(service: RealService, files: TlsFiles) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=service.url, verify=files.client(), timeout=LONGEST)


async def shown(address: str, files: TlsFiles) -> bytes:
    """Return the certificate that a server shows to a new connection."""
    host, _, port = address.partition("://")[2].partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=files.client())
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(found, bytes)
        return found
    finally:
        writer.close()


def on_disk(files: TlsFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.chain.read_text().partition("-----END")[0] + END)


END = "-----END CERTIFICATE-----\n"


async def until_shown(address: str, files: TlsFiles) -> None:
    expected = on_disk(files)
    async with asyncio.timeout(LONGEST):
        while await shown(address, files) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_broken(service: RealService, files: TlsFiles, is_broken: bool) -> None:
    async with client(service, files) as one, asyncio.timeout(LONGEST):
        line = f"tls_certificate_broken {float(is_broken)}"
        while line not in (await one.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def load(service: RealService, files: TlsFiles, statuses: Counter[int]) -> None:
    async with client(service, files) as one:
        while True:
            text = f"text {statuses.total()}"
            response = await one.post("/v1/classify", json={"text": text})
            statuses[response.status_code] += 1


async def check_health(service: RealService, files: TlsFiles) -> int:
    credentials = grpc.ssl_channel_credentials(files.authority.read_bytes())
    async with grpc.aio.secure_channel(service.grpc_address, credentials) as channel:
        request = health_pb2.HealthCheckRequest()
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=LONGEST)
        return int(answer.status)


async def test_the_certificate_changes_breaks_and_is_repaired_under_load(
    service: RealService, files: TlsFiles
) -> None:
    statuses = Counter[int]()
    clients = [asyncio.create_task(load(service, files, statuses)) for _ in range(4)]
    addresses = (service.url, f"grpc://{service.grpc_address}")
    serving = health_pb2.HealthCheckResponse.SERVING
    for address in addresses:
        await until_shown(address, files)
    files.renew()
    for address in addresses:
        await until_shown(address, files)
    good = files.key.read_bytes()
    files.key.write_text("no key")
    await until_broken(service, files, True)
    for address in addresses:
        await until_shown(address, files)
    assert await check_health(service, files) == serving
    files.key.write_bytes(good)
    await until_broken(service, files, False)
    assert await check_health(service, files) == serving
    assert not any(one.done() for one in clients)
    for one in clients:
        one.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    assert set(statuses) == {200}
    assert statuses.total() > 10


async def test_the_unix_socket_answers_without_tls(service: RealService, files: TlsFiles) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(files.key.with_name("socket")))
    async with httpx.AsyncClient(transport=transport, timeout=LONGEST) as one:
        answer = await one.post("http://quartet/v1/classify", json={"text": "the game was won"})
    assert answer.json()["results"][0]["labels"]
    assert service.url.startswith("https")
