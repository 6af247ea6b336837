from dataclasses import replace

import httpx
import pytest

from service.api import ApiContext, build_api
from tests.unit.api.fakes import FakeRegistry


async def test_a_process_that_answers_lives(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "live"})


async def test_ready_when_every_wanted_model_is(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


async def test_not_ready_says_which_model_is_not_and_why(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    registry.reasons = {"cards": "warming up"}
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["models"] == {"cards": "warming up"}


async def test_not_ready_when_the_device_computes_nothing(context: ApiContext) -> None:
    lost = replace(context, device_problem=lambda: "all 2 threads of cpu are held")
    transport = httpx.ASGITransport(build_api(lost))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()["code"]) == (503, "model_not_ready")
        assert response.json()["detail"] == "all 2 threads of cpu are held"
        assert (await client.get("/health/live")).status_code == 200


async def test_not_ready_while_shutting_down(
    client: httpx.AsyncClient, context: ApiContext
) -> None:
    context.lifecycle.shutting_down = True
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "shutting_down")


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain", "\n"),
        ("*/*", "text/plain", "\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_metrics_are_exposed_as_prometheus_asks(
    client: httpx.AsyncClient, accept: str, content_type: str, end: str
) -> None:
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(content_type)
    assert "# TYPE http_request_seconds histogram" in response.text
    assert response.text.endswith(end)
