"""The gRPC server over real sockets, in front of models that wait or fail on demand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.access.access import Access
from service.access.keys_file import new_key
from service.api import ApiContext, ApiLimits, Lifecycle
from service.protocols.oip.rpc.calls import SERVICE
from service.protocols.oip.rpc.messages import pb
from service.protocols.oip.rpc.server import GrpcServer
from tests.integration.rpc_messages import hostile, question
from tests.unit.api.fakes import FakeRegistry

pytestmark = [pytest.mark.looptime(False)]
SECONDS = 60.0


class Rpc:
    """A server, and a client of it."""

    def __init__(self, context: ApiContext, registry: FakeRegistry) -> None:
        self.context, self.registry = context, registry
        self.server = GrpcServer(context, "127.0.0.1", 0)
        self.channel: Any = None

    async def __aenter__(self) -> "Rpc":
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.server.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.server.stop(0)

    def unary(self, method: str, request: Any, response: Any, **more: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}", type(request).SerializeToString, response.FromString
        )
        return call(request, **{"timeout": SECONDS, **more})

    def infer(self, *texts: str, model: str = "news-topics", **more: Any) -> Any:
        return self.unary(
            "ModelInfer", question(*texts, model=model), pb.ModelInferResponse, **more
        )


@pytest.fixture
async def rpc() -> AsyncIterator[Rpc]:
    registry = FakeRegistry()
    limits = ApiLimits(max_body_bytes=100_000, max_items=8, max_characters=1000)
    context = ApiContext(registry, Lifecycle(), limits, admin_token="token")
    async with Rpc(context, registry) as running:
        yield running


async def test_typed_and_raw_contents(rpc: Rpc) -> None:
    typed = await rpc.infer("a", "b")
    raw = question()
    raw.inputs[0].shape[:] = [2]
    raw.raw_input_contents.append(b"\1\0\0\0a\1\0\0\0b")
    again = await rpc.unary("ModelInfer", raw, pb.ModelInferResponse)
    assert typed == again
    assert (typed.model_name, typed.model_version, typed.id) == ("news-topics", "1", "7")
    assert [(one.name, one.datatype) for one in typed.outputs] == [
        ("label", "BYTES"),
        ("score", "FP32"),
    ]
    assert len(typed.raw_output_contents) == 2


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("overloaded", grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
        ("inference", grpc.StatusCode.INTERNAL, "inference_failed"),
        ("memory", grpc.StatusCode.RESOURCE_EXHAUSTED, "device_memory"),
        ("bug", grpc.StatusCode.INTERNAL, "internal_error"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "invalid_input"),
        ("a" * 2000, grpc.StatusCode.INVALID_ARGUMENT, "limit_exceeded"),
    ],
)
async def test_an_error_has_a_status_and_the_code_of_the_service(
    rpc: Rpc, text: str, code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rpc.infer(text)
    trailers = dict(failed.value.trailing_metadata())
    assert (failed.value.code(), trailers["quartet-code"]) == (code, said)
    assert "secret" not in str(failed.value.details())
    assert ("retry-after" in trailers) == (said in ("overloaded", "device_memory"))


async def test_the_deadline_of_a_client_is_that_of_the_request(rpc: Rpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rpc.infer("wait", timeout=0.2)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    pipeline: Any = rpc.registry.named("news-topics")
    (_, request), *_ = pipeline.asked
    assert request.deadline < asyncio.get_running_loop().time() + 1


async def test_a_call_needs_a_key_where_requests_do(tmp_path: Path) -> None:
    key, lines = new_key("client")
    file = tmp_path / "keys.toml"
    file.write_text(f"{lines}\n")
    registry = FakeRegistry()
    context = ApiContext(registry, Lifecycle(), ApiLimits(), access=Access(file))
    async with Rpc(context, registry) as rpc:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rpc.infer("a")
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await rpc.unary("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)).live
        assert (
            await rpc.unary("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
        ).ready
        asked = pb.ModelReadyRequest(name="digits")
        assert (await rpc.unary("ModelReady", asked, pb.ModelReadyResponse)).ready
        answer = await rpc.infer("a", metadata=(("authorization", f"Bearer {key}"),))
        assert answer.model_name == "news-topics"
        load = pb.RepositoryModelLoadRequest(model_name="digits")
        with pytest.raises(grpc.aio.AioRpcError) as forbidden:
            await rpc.unary(
                "RepositoryModelLoad",
                load,
                pb.RepositoryModelLoadResponse,
                metadata=(("x-api-key", key),),
            )
        assert forbidden.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_cancelled_call_frees_its_place(rpc: Rpc) -> None:
    pipeline: Any = rpc.registry.named("news-topics")
    call = rpc.infer("hang")
    waiting = asyncio.ensure_future(_await(call))
    await asyncio.wait_for(pipeline.started.wait(), SECONDS)
    call.cancel()
    await asyncio.wait_for(pipeline.cancelled.wait(), SECONDS)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _await(call: Any) -> Any:
    return await call


async def test_a_stop_answers_what_was_accepted(rpc: Rpc) -> None:
    pipeline: Any = rpc.registry.named("news-topics")
    waiting = asyncio.ensure_future(_await(rpc.infer("wait")))
    await asyncio.wait_for(pipeline.started.wait(), SECONDS)
    stopping = asyncio.ensure_future(rpc.server.stop(SECONDS))
    await asyncio.sleep(0)
    pipeline.late.set()  # its deadline has passed: the answer is an error, and it is delivered
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await waiting
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(stopping, SECONDS)


async def test_a_stream_answers_in_order_and_goes_on_after_an_error(rpc: Rpc) -> None:
    call = rpc.channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )
    messages = [
        question("a"),
        question("inference"),
        question("a", model="absent"),
        question("one.\ntwo.", model="zh-en"),
        question("b"),
    ]
    found = []
    async for one in call(iter(messages), timeout=SECONDS):
        final = one.infer_response.parameters["triton_final_response"].bool_param
        found.append((one.infer_response.model_name, bool(one.error_message), final))
    assert found == [
        ("news-topics", False, True),
        ("news-topics", True, True),
        ("absent", True, True),
        ("zh-en", False, False),
        ("zh-en", False, False),
        ("zh-en", False, True),
        ("news-topics", False, True),
    ]


async def test_a_stop_ends_a_stream_that_waits_for_its_client(rpc: Rpc) -> None:
    call = rpc.channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )(timeout=SECONDS)
    await call.write(question("a"))
    assert (await call.read()).infer_response.model_name == "news-topics"
    await asyncio.wait_for(rpc.server.stop(SECONDS), SECONDS)
    assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_and_its_watch(rpc: Rpc) -> None:
    stub = health_pb2_grpc.HealthStub(rpc.channel)
    answer = health_pb2.HealthCheckResponse

    async def status(name: str) -> Any:
        asked = health_pb2.HealthCheckRequest(service=name)
        return (await stub.Check(asked, timeout=SECONDS)).status

    assert await status("") == await status(SERVICE) == await status("emoji") == answer.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await status("absent")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert (await watch.read()).status == answer.SERVING
    rpc.registry.reasons["emoji"] = "loading"
    assert (await watch.read()).status == answer.NOT_SERVING
    await rpc.server.stop(SECONDS)  # does not wait for the watch
    assert await watch.read() is grpc.aio.EOF


async def test_reflection_lists_the_service(rpc: Rpc) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    answers = [one async for one in stub.ServerReflectionInfo(iter(asked), timeout=SECONDS)]
    services = {one.name for one in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= services
    assert answers[1].file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("number", range(len(hostile())))
async def test_a_hostile_message_is_refused_with_a_sentence(rpc: Rpc, number: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rpc.unary("ModelInfer", hostile()[number], pb.ModelInferResponse)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert 0 < len(failed.value.details() or "") < 1_000


async def test_a_message_over_the_limit_or_no_message_harms_nothing(rpc: Rpc) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as large:
        await rpc.infer("a" * 200_000)
    assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    path = f"/{SERVICE}/ModelInfer"
    stray = rpc.channel.unary_unary(path, lambda data: data, lambda data: data)
    with pytest.raises(grpc.aio.AioRpcError):
        await stray(b"\xff\xff\xff", timeout=SECONDS)
    assert (await rpc.infer("a")).model_name == "news-topics"
    assert rpc.context.bodies.held == 0
