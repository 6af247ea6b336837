"""What every response has, and what every failure becomes."""

import asyncio
import gc

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api import build_api
from service.api.context import ApiContext
from service.api.http_request import HttpRequest
from service.api.route import DirectRoute
from service.tasks import Task
from service.telemetry.metrics import UNKNOWN_MODEL
from tests.sentences import sentence
from tests.unit.api.fakes import FakeRegistry


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def series() -> int:
    return sum(len(metric.samples) for metric in REGISTRY.collect())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/classify/", 405, "method_not_allowed"),
        ("POST", "/v1/../etc/passwd", 404, "not_found"),
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("PROPFIND", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/docs/assets/nothing.js", 404, "not_found"),
    ],
)
async def test_what_is_not_there_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code


async def test_a_wrong_method_is_told_the_right_one(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/classify")).headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/health/live", "/nothing", "/metrics"])
async def test_every_response_has_the_request_id_and_the_time_it_took(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path, headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["server-timing"].startswith("total;dur=")


async def test_a_request_that_has_ended_waits_for_no_garbage_collector(
    client: httpx.AsyncClient,
) -> None:
    gc.collect()
    gc.disable()
    try:
        assert (await client.get("/health/live")).status_code == 200
        assert not [one for one in gc.get_objects() if type(one) is HttpRequest]
    finally:
        gc.enable()


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/translate"])
async def test_a_request_that_has_ended_takes_no_room_for_its_body(
    client: httpx.AsyncClient, context: ApiContext, path: str
) -> None:
    most = context.limits.max_bodies_bytes
    assert context.bodies.take(most - 60_000, most)
    for _ in range(3):
        response = await client.post(path, json={"text": ["a" * 900] * 8, "": "b" * 40_000})
        assert response.status_code == 422
    assert count("http_body_bytes") == context.bodies.held == most - 60_000
    refused = count("http_bodies_refused_total")
    response = await client.post(path, json={"text": "a" * 61_000})
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert count("http_bodies_refused_total") == refused + 1


async def test_an_error_carries_the_request_id(client: httpx.AsyncClient) -> None:
    response = await client.get("/nothing")
    assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_a_bug_in_a_route_is_logged_and_answered_without_details(
    client: httpx.AsyncClient, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.pipelines.clear()
    response = await client.post("/v1/classify", json={"text": "a"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "KeyError" not in response.text
    assert caplog.records[0].__dict__["request_id"] == response.headers["x-request-id"]


async def test_a_bad_header_is_refused_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/classify", json={"text": "a"}, headers={"x-request-timeout-ms": "soon"}
    )
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


async def test_new_work_is_refused_while_shutting_down(
    client: httpx.AsyncClient, context: ApiContext
) -> None:
    context.lifecycle.shutting_down = True
    response = await client.post("/v1/classify", json={"text": "a"})
    assert (response.status_code, response.json()["code"]) == (503, "shutting_down")
    assert response.headers["connection"] == "close"
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200


async def test_who_is_cut_off_by_the_end_of_the_service_is_told(
    api: FastAPI, context: ApiContext, registry: FakeRegistry
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        if registry.pipelines[Task.CLASSIFY, "text"].started.is_set():
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b'{"text":"hang"}', "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    serving = asyncio.create_task(api(scope, receive, send))
    await registry.pipelines[Task.CLASSIFY, "text"].started.wait()
    context.lifecycle.shutting_down = True
    serving.cancel()
    await serving  # or the server would log a request that was answered as a fault
    assert sent[0]["status"] == 503
    assert b'"shutting_down"' in sent[1]["body"]


async def test_requests_are_counted_by_route_method_and_status(client: httpx.AsyncClient) -> None:
    labels = {"route": "/v1/models/{model}", "method": "GET", "status": "404", "protocol": "native"}
    before = count("http_requests_total", **labels)
    await client.get("/v1/models/nobody")
    assert count("http_requests_total", **labels) == before + 1


async def test_random_paths_methods_and_models_make_no_new_series(
    api: FastAPI, client: httpx.AsyncClient
) -> None:
    async def stranger(number: int) -> None:
        await client.request(f"METHOD{number}", "/v1/classify")
        await client.get(f"/v1/models/model-{number}")
        await client.post("/v1/classify", json={"text": "a", "model": f"model-{number}"})
        await client.post("/v1/classify", json={"text": "a", "version": number + 2})

    await stranger(0)
    await ask(api, "/path/0")
    before = series()
    for number in range(1, 30):
        await stranger(number)
    for number in range(1, 2_000):
        await ask(api, f"/path/{number}")
    assert series() == before


async def ask(api: FastAPI, path: str) -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        assert message.get("status", 404) == 404

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await api(scope, receive, send)


async def test_an_unknown_model_counts_under_one_name(client: httpx.AsyncClient) -> None:
    labels = {"model": UNKNOWN_MODEL, "version": UNKNOWN_MODEL, "outcome": "model_not_found"}
    before = count("inference_requests_total", **labels)
    response = await client.post("/v1/classify", json={"text": ["a", "b"], "model": "nobody"})
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
    assert count("inference_requests_total", **labels) == before + 2


async def test_a_websocket_is_turned_away(api: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/classify", "query_string": b"", "headers": []}
    await api(scope, receive, send)
    assert sent[0]["type"] == "websocket.close"


async def test_a_failure_after_the_response_has_begun_is_left_to_the_server(
    context: ApiContext,
) -> None:
    class Half(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise OSError("the disk is gone")

    async def half(request: HttpRequest) -> Response:
        return Half()

    async def receive() -> Message:
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(OSError, check=sentence):
        await build_api(context, None, [DirectRoute("/half", half)])(
            {"type": "http", "method": "GET", "path": "/half", "headers": []}, receive, send
        )
    assert len(sent) == 1
