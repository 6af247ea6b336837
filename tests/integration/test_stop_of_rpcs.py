"""SIGTERM while calls over gRPC and requests over HTTP are in flight: all are answered."""

import asyncio
import signal
from pathlib import Path

import grpc
import httpx
import pytest

from service.protocols.oip.rpc.calls import SERVICE
from service.protocols.oip.rpc.messages import pb
from tests.integration.real_service import RealService, real_service
from tests.redis_server import free_port

pytestmark = [pytest.mark.looptime(False)]

CALLS = 40
"""Texts in flight of each transport; one batch does not take them all."""
SECONDS = 120.0


def question(number: int) -> bytes:
    message = pb.ModelInferRequest(model_name="news-topics")
    tensor = message.inputs.add(name="text", datatype="BYTES", shape=[8])
    tensor.contents.bytes_contents.extend(b"rocket %d %d " % (number, n) * 40 for n in range(8))
    data: bytes = message.SerializeToString()
    return data


async def flood(service: RealService) -> tuple[int, int]:
    """Send calls and requests, end the process, and count the answers of each kind."""
    async with (
        grpc.aio.insecure_channel(service.grpc_address) as channel,
        httpx.AsyncClient(timeout=SECONDS) as client,
    ):
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", lambda data: data, pb.ModelInferResponse.FromString
        )
        # A call of which the answer is here: the connection is open.
        await infer(question(-1), timeout=SECONDS)
        calls = [infer(question(number), timeout=SECONDS) for number in range(CALLS)]
        body = {"text": [f"comet {n} " * 40 for n in range(8)]}
        requests = [
            asyncio.ensure_future(client.post(f"{service.url}/v1/classify", json=body))
            for _ in range(CALLS)
        ]
        # The first answers are here, so all calls are on their way or beyond.
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([asyncio.ensure_future(_answer(call)) for call in calls[:1]])
        service.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*(_answer(call) for call in calls))
        responses = await asyncio.gather(*requests)
    return (
        sum(answer.model_name == "news-topics" for answer in answers),
        sum(response.status_code == httpx.codes.OK for response in responses),
    )


async def _answer(call: "grpc.aio.UnaryUnaryCall[bytes, object]") -> "pb.ModelInferResponse":
    return await call


async def test_a_stop_loses_no_call_and_no_request(tmp_path: Path) -> None:
    port = str(free_port())
    options = ("--models.only", "news-topics", "--server.grpc-port", port)
    with real_service(tmp_path, *options, "--batching.max-queue-size", "2000") as service:
        service.grpc_address = f"127.0.0.1:{port}"
        assert await flood(service) == (CALLS, CALLS)
        assert await asyncio.to_thread(service.process.wait, SECONDS) == 0


async def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    port = str(free_port())
    options = ("--models.only", "digits", "--server.grpc-port", port)
    (tmp_path / "other").mkdir()
    with real_service(tmp_path, *options):
        other = RealService(tmp_path / "other", *options)
        try:
            assert await asyncio.to_thread(other.process.wait, SECONDS) != 0
            assert "gRPC" in other.log
            assert port in other.log
        finally:
            other.end()
