"""What every protocol promises, over the table of `cases.py`."""

import asyncio
from collections.abc import Sequence
from typing import Any, Union

import httpx
import pytest
from pydantic import TypeAdapter
from starlette.routing import Match

from service.api import ApiContext
from service.protocols import protocol_routes
from service.protocols.protocol import Protocol, ProtocolRoute
from service.telemetry.request_metrics import HTTP_REQUESTS
from tests.unit.protocols.cases import CASES, HOSTILE, Case

CONTENT_TYPES = [None, "text/plain", "application/x-www-form-urlencoded", "image/png", "x"]

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def route_of(case: Case) -> ProtocolRoute:
    """Return the route of a case."""
    scope = {"type": "http", "method": "POST", "path": case.path, "headers": []}
    routes = (route for route in protocol_routes() if route.matches(scope)[0] is Match.FULL)
    return next(routes)


def protocols(case: Case) -> Sequence[Protocol]:
    """Return the protocols that share the path of a case: a broken body may be of any."""
    return route_of(case)._protocols


def assert_refused(case: Case, response: httpx.Response, status: int | None = None) -> None:
    """Check that an error has the shape of its protocol."""
    assert 400 <= response.status_code < 500 or status, response.text
    assert status in (None, response.status_code), response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    shapes = TypeAdapter(Union[*(protocol.error for protocol in protocols(case))])
    shapes.validate_json(response.content)
    assert "urn:quartet" not in response.text


@each_case
async def test_the_answer_is_that_of_the_native_route(
    client: httpx.AsyncClient, case: Case
) -> None:
    response = await client.post(case.path, json=case.body)
    native = await client.post(case.native, json=case.native_body)
    assert response.status_code == native.status_code == 200, response.text
    assert case.read(response.json()) == case.read_native(native.json())
    assert response.headers["x-cache"]


@each_case
async def test_any_content_type_is_read_as_what_the_body_is(
    client: httpx.AsyncClient, case: Case
) -> None:
    for content_type in CONTENT_TYPES:
        request = client.build_request("POST", case.path, json=case.body)
        del request.headers["content-type"]
        if content_type is not None:
            request.headers["content-type"] = content_type
        response = await client.send(request)
        assert response.status_code == 200, response.text


@each_case
async def test_unknown_keys_are_ignored(client: httpx.AsyncClient, case: Case) -> None:
    response = await client.post(case.path, json={**case.body, "x_unknown": {"a": [1]}})
    assert response.status_code == 200, response.text


@each_case
async def test_hostile_bodies_get_errors_of_the_protocol(
    client: httpx.AsyncClient, case: Case
) -> None:
    for body in HOSTILE:
        response = await client.post(case.path, content=body)
        if response.status_code != 200:
            assert_refused(case, response)


@each_case
async def test_wrong_values_get_an_error_of_the_protocol(
    client: httpx.AsyncClient, case: Case
) -> None:
    for body in case.hostile:
        assert_refused(case, await client.post(case.path, content=body))


@each_case
async def test_what_is_refused_before_the_body_is_read_has_the_shape_too(
    client: httpx.AsyncClient, context: ApiContext, case: Case
) -> None:
    large = await client.post(case.path, content=b"x" * 100_001)
    assert_refused(case, large, 413)
    assert_refused(case, await client.put(case.path, json=case.body), 405)
    wrong = {"x-request-timeout-ms": "soon"}
    assert_refused(case, await client.post(case.path, json=case.body, headers=wrong))
    coded = {"content-encoding": "br"}
    assert_refused(case, await client.post(case.path, json=case.body, headers=coded))
    context.lifecycle.shutting_down = True
    assert_refused(case, await client.post(case.path, json=case.body), 503)


@each_case
async def test_overload_says_when_to_come_back(client: httpx.AsyncClient, case: Case) -> None:
    response = await client.post(case.path, json=case.with_text("overloaded"))
    assert_refused(case, response, 429)
    assert response.headers["retry-after"] == "2"


@each_case
async def test_a_deadline_holds(client: httpx.AsyncClient, case: Case) -> None:
    headers = {"x-request-timeout-ms": "10"}
    response = await client.post(case.path, json=case.with_text("wait"), headers=headers)
    assert_refused(case, response, 504)


@each_case
@pytest.mark.parametrize(("text", "status"), [("inference", 500), ("bug", 500), ("memory", 503)])
async def test_a_failure_of_the_model_has_the_shape(
    client: httpx.AsyncClient, case: Case, text: str, status: int
) -> None:
    response = await client.post(case.path, json=case.with_text(text))
    assert_refused(case, response, status)
    assert "secret" not in response.text


@each_case
async def test_requests_are_counted_by_protocol(client: httpx.AsyncClient, case: Case) -> None:
    names = {protocol.name for protocol in protocols(case)}

    def counted(status: int, *names: str) -> float:
        labels = {"method": "POST", "status": str(status)}
        found = [
            sample.value
            for metric in HTTP_REQUESTS.collect()
            for sample in metric.samples
            if sample.name == "http_requests_total" and labels.items() <= sample.labels.items()
            if sample.labels["protocol"] in names
        ]
        return sum(found)

    before = counted(200, case.protocol.name), counted(413, *names)
    await client.post(case.path, json=case.body)
    await client.post(case.path, content=b"x" * 100_001)
    assert (counted(200, case.protocol.name), counted(413, *names)) == (
        before[0] + 1,
        before[1] + 1,
    )


def test_every_operation_has_a_case() -> None:
    with_body = {route.path for route in protocol_routes() if "POST" in (route.methods or ())}
    tested = {route_of(case).path for case in CASES}
    missing = {path for path in with_body - tested - SAME if not path.startswith(TWICE)}
    assert not missing


TWICE = "/tei/{model:path}/"
"""Before paths whose operations have a case without it."""
SAME = {
    "/embeddings",
    "/detect",
    "/hf/{model:path}",
    "/v1/vision/custom/list",
    "/v1/vision/custom/{model:path}",
    "/v2/models/{model:path}/versions/{version}/infer",
    "/embeddings_image",
    "/tokenize",
    "/decode",
    "/v2/repository/index",
    "/v2/repository/models/{model:path}/load",
    "/v2/repository/models/{model:path}/unload",
}
"""Other paths of operations that have a case, or tests in another file."""


def test_the_paths_of_protocols_are_distinct() -> None:
    seen: list[tuple[str, str]] = [
        (route.path, method) for route in protocol_routes() for method in route.methods or ()
    ]
    assert len(seen) == len(set(seen))
    assert all(isinstance(route, ProtocolRoute) for route in protocol_routes())


def test_labels_of_the_metric_are_constants() -> None:
    names = {name for route in protocol_routes() for name in _names(route)}
    assert names
    assert all(name.isidentifier() for name in names)


def _names(route: Any) -> set[str]:
    return {protocol.name for protocol in route._protocols}


async def test_a_client_that_leaves_cancels_the_work(api: Any, registry: Any) -> None:
    body = b'{"input": "hang"}'
    arrived = asyncio.Event()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await arrived.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embeddings",
        "query_string": b"",
        "headers": [],
    }
    pipeline = registry.find("embed", "text", None, None)
    serving = asyncio.create_task(api(scope, receive, send))
    await pipeline.started.wait()
    arrived.set()
    await serving
    assert pipeline.cancelled.is_set()
