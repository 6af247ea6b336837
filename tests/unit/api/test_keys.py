"""Requests with and without a key, through the whole application."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest
from fastapi import FastAPI

from service.access.access import Access
from service.access.keys_file import digest_of
from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.api.route import DirectRoute
from service.page.page import page_routes
from service.protocols.routes import protocol_routes
from tests.unit.api.fakes import FakeRegistry

TOKEN = "correct-horse"
KEYS = {
    "free": "",
    "admin": "admin = true",
    "slow": "requests_per_second = 0.5\nburst = 2",
    "poor": "items_per_day = 3\ncharacters_per_minute = 100",
    "narrow": 'tasks = ["translate"]\nmodels = ["zh-en"]',
}
BODY = {"text": "hello"}


async def late(request: HttpRequest) -> Reply:
    """A protocol that puts its key in the body."""
    body = orjson.loads(await request.read_body())
    if not body.get("forget"):
        await request.authenticate(body.get("api_key"))
    caller = request.without_transport().caller
    return Reply(orjson.dumps({"caller": caller.name if caller else None}))


@pytest.fixture
def late_route() -> DirectRoute:
    return DirectRoute("/late/{name}", late, "endpoint", methods=["POST"])


@pytest.fixture
async def client(
    registry: FakeRegistry, limits: ApiLimits, tmp_path: Path, late_route: DirectRoute
) -> AsyncIterator[httpx.AsyncClient]:
    file = tmp_path / "keys.toml"
    file.write_text(
        "\n".join(
            f'[keys.{name}]\nsha256 = "{digest_of(name.encode()).hex()}"\n{rest}'
            for name, rest in KEYS.items()
        )
    )
    context = ApiContext(
        registry, Lifecycle(), limits, admin_token=TOKEN, access=Access(file, TOKEN)
    )
    api = build_api(context, None, [*page_routes(), late_route])
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer free"},
        {"authorization": "bearer   free"},
        {"Authorization": "free"},
        {"X-API-Key": "free"},
        {"X-API-Key": "free", "Authorization": "Basic dXNlcjpwYXNz"},
    ],
)
async def test_where_a_key_may_be(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for response in (
        await client.post("/v1/classify", json=BODY, headers=headers),
        await client.get("/v1/models", headers=headers),
    ):
        assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic ZnJlZTpmcmVl"},
        {"Authorization": "Basic free"},
        {"Authorization": "Bearer free free"},
        {"Authorization": "Bearer " + "x" * 50_000},
        {"Authorization": b"Bearer \xff\xfe\x80"},
        {"X-API-Key": "wrong", "Authorization": "Bearer free"},
        {"X-API-Key": digest_of(b"free").hex()},
        {"X-API-Key": "{'$ne': null}"},
        {"X-API-Key": "free\t\x01"},
    ],
)
async def test_without_a_known_key_nothing_is_read_or_computed(
    client: httpx.AsyncClient, registry: FakeRegistry, headers: dict[str, str | bytes]
) -> None:
    for method, path in (
        ("POST", "/v1/classify"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/topics"),
        ("POST", "/v1/models/topics/load"),
    ):
        response = await client.request(method, path, content=b"not JSON", headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"].startswith("Bearer")


OPEN = {
    "/", "/page/{name:path}", "/docs", "/openapi.json", "/metrics",
    "/health/live", "/health/ready", "/health", "/ping", "/frontend/settings",
    "/.well-known/live", "/.well-known/ready", "/v2/health/live", "/v2/health/ready",
    "/tei/{model:path}/health", "/tei/{model:path}", "/languages", "/hf/{model:path}/health",
    "/v2/models/{model:path}/ready", "/v2/models/{model:path}/versions/{version}/ready",
}  # fmt: skip


async def test_every_other_route_of_every_protocol_needs_a_key(
    context: ApiContext, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{digest_of(b"secret").hex()}"')
    locked = replace(context, access=Access(file))
    api = build_api(locked, None, [*page_routes(), *protocol_routes()])
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    opened = set()
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        for route in (route for route in api.routes if isinstance(route, DirectRoute)):
            path = re.sub(r"{\w+(:path)?}", "emoji", route.path)
            for method in (route.methods or set()) - {"HEAD"}:
                response = await client.request(method, path, json={})
                if response.status_code != 401:
                    opened.add(f"{method} {route.path}")
    assert opened <= {f"GET {path}" for path in OPEN}


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/", "/docs", "/openapi.json"])
async def test_what_needs_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_the_documentation_asks_for_a_key_only_with_a_keys_file(
    client: httpx.AsyncClient, api: FastAPI
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["security"] == [{"key": []}]
    scheme = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert document["components"]["securitySchemes"]["key"] == scheme
    assert "security" not in api.openapi()


async def test_administration_with_a_key_and_with_the_token(client: httpx.AsyncClient) -> None:
    for key, status in (("admin", 200), (TOKEN, 200), ("free", 403)):
        response = await client.post("/v1/models/digits/load", headers=bearer(key))
        assert response.status_code == status
    assert response.json()["code"] == "forbidden"
    assert (await client.post("/v1/classify", json=BODY, headers=bearer(TOKEN))).is_success


async def test_too_many_requests_are_told_when_to_come_again(client: httpx.AsyncClient) -> None:
    for left in (1, 0):
        response = await client.post("/v1/classify", json=BODY, headers=bearer("slow"))
        assert response.status_code == 200
        assert response.headers["ratelimit"].startswith(f'"requests-second";r={left};t=')
    response = await client.post("/v1/classify", json=BODY, headers=bearer("slow"))
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(response.headers["retry-after"]) <= 2
    assert response.headers["ratelimit-policy"] == '"requests-second";q=2;w=4'
    assert response.headers["ratelimit"].startswith('"requests-second";r=0;t=')
    assert (await client.post("/v1/classify", json=BODY, headers=bearer("free"))).is_success


async def test_a_quota_that_is_used_up(client: httpx.AsyncClient, registry: FakeRegistry) -> None:
    two = {"text": ["one", "two"]}
    assert (await client.post("/v1/classify", json=two, headers=bearer("poor"))).is_success
    response = await client.post("/v1/classify", json=two, headers=bearer("poor"))
    assert (response.status_code, response.json()["code"]) == (403, "quota_exceeded")
    assert int(response.headers["retry-after"]) > 86_000
    assert '"items-day";r=1' in response.headers["ratelimit"]
    long = {"text": "x" * 101}
    response = await client.post("/v1/classify", json=long, headers=bearer("poor"))
    assert (response.status_code, response.json()["code"]) == (413, "limit_exceeded")
    assert (await client.post("/v1/classify", json=BODY, headers=bearer("poor"))).is_success


async def test_streams_are_charged_too(client: httpx.AsyncClient) -> None:
    body = {"text": ["一", "二", "三"], "stream": "segments"}
    response = await client.post("/v1/translate", json=body, headers=bearer("poor"))
    assert response.status_code == 200
    response = await client.post("/v1/translate", json=body, headers=bearer("poor"))
    assert (response.status_code, response.json()["code"]) == (403, "quota_exceeded")


async def test_a_key_of_one_task(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/classify", json=BODY, headers=bearer("narrow"))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        ({}, {"api_key": "free"}, "free"),
        ({}, {"api_key": "wrong"}, None),
        ({}, {"api_key": ""}, None),
        ({}, {}, None),
        ({}, {"api_key": "free", "forget": True}, None),
        (bearer("free"), {}, "free"),
        (bearer("free"), {"forget": True}, "free"),
        (bearer("free"), {"api_key": "slow"}, "free"),
        (bearer("wrong"), {"api_key": "free"}, None),
    ],
)
async def test_a_protocol_may_find_the_key_in_the_body(
    client: httpx.AsyncClient,
    headers: dict[str, str],
    body: dict[str, object],
    found: str | None,
) -> None:
    response = await client.post("/late/x", json=body, headers=headers)
    if found is None:
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    else:
        assert response.json() == {"caller": found}


async def test_a_request_is_counted_once_wherever_its_key_is(client: httpx.AsyncClient) -> None:
    for headers, key in ((bearer("slow"), "slow"), ({}, "slow")):
        response = await client.post("/late/x", json={"api_key": key}, headers=headers)
        assert response.status_code == 200
    response = await client.post("/late/x", json={"api_key": "slow"})
    assert response.status_code == 429


async def test_without_a_keys_file_a_key_is_not_looked_at(
    context: ApiContext, late_route: DirectRoute
) -> None:
    api = build_api(context, None, [late_route])
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        for headers in ({}, bearer("anything")):
            response = await client.post("/v1/classify", json=BODY, headers=headers)
            assert response.status_code == 200
            assert "ratelimit" not in response.headers
        assert (await client.post("/late/x", json={})).json() == {"caller": None}


async def test_a_service_with_keys_does_not_change_the_routes_of_another(
    client: httpx.AsyncClient, registry: FakeRegistry, limits: ApiLimits
) -> None:
    assert (await client.post("/v1/classify", json=BODY)).status_code == 401
    open_to_all = build_api(ApiContext(registry, Lifecycle(), limits), None, [])
    transport = httpx.ASGITransport(open_to_all)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as other:
        assert (await other.post("/v1/classify", json=BODY)).status_code == 200
