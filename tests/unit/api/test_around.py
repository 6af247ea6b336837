"""CORS for pages of other origins, and the headers of trusted proxies."""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.around import surrounded
from service.settings import SettingsError, read_settings
from service.telemetry.record import RequestRecord
from tests.unit.api.fakes import FakeRegistry

PAGE = "https://app.example.org"
ROUTES = ["/v1/classify", "/v1/models/topics", "/metrics", "/docs/assets/x.js", "/nothing", "/"]
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, x-api-key, content-type",
}


def caller(app: Any, client: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client, 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://quartet")


@pytest.fixture
def listed(api: FastAPI) -> httpx.AsyncClient:
    return caller(surrounded(api, [PAGE], ()))


def test_without_settings_nothing_stands_around_the_application(api: FastAPI) -> None:
    server = read_settings({}).server
    assert surrounded(api, server.cors_origins, server.forwarded_allow_ips) is api


@pytest.mark.parametrize("path", ROUTES)
async def test_a_preflight_of_every_route_is_answered(listed: httpx.AsyncClient, path: str) -> None:
    answer = await listed.options(path, headers={"origin": PAGE, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"]
    assert allowed == PREFLIGHT["access-control-request-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status"), [('{"text": "a"}', 200), ('{"text": 1}', 422), ("{", 400)]
)
async def test_answers_and_errors_may_be_read(
    listed: httpx.AsyncClient, body: str, status: int
) -> None:
    headers = {"origin": PAGE, "content-type": "application/json", "accept-encoding": "gzip"}
    answer = await listed.post("/v1/classify", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    fields = {"x-request-id", "x-cache", "server-timing", "retry-after"}
    assert fields | {"ratelimit", "ratelimit-policy"} <= exposed
    assert "Origin" in answer.headers["vary"]


async def test_the_other_reasons_why_an_answer_varies_stay(listed: httpx.AsyncClient) -> None:
    answer = await listed.get("/openapi.json", headers={"origin": PAGE, "accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding, Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        f"{PAGE}.evil.org",
        f"{PAGE}:8443",
        PAGE.replace("https", "http"),
        PAGE.upper(),
        f"{PAGE}\r\naccess-control-allow-origin: *",
        f"{PAGE}, https://evil.org",
        "https://" + "a" * 60_000,
        "*",
        "",
    ],
    ids=lambda origin: origin[:30],
)
async def test_other_origins_are_not_allowed(listed: httpx.AsyncClient, origin: str) -> None:
    refused = await listed.options("/v1/classify", headers={"origin": origin, **PREFLIGHT})
    answer = await listed.post("/v1/classify", json={"text": "a"}, headers={"origin": origin})
    assert (refused.status_code, answer.status_code) == (400, 200)
    for one in (refused, answer):
        assert "access-control-allow-origin" not in one.headers
        assert "Origin" in one.headers["vary"]
        assert "evil" not in str(one.headers)


async def test_a_star_allows_every_origin_without_cookies(api: FastAPI) -> None:
    client = caller(surrounded(api, ["*"], ()))
    for origin in (PAGE, "null"):
        preflight = await client.options("/v1/embed", headers={"origin": origin, **PREFLIGHT})
        answer = await client.get("/nothing", headers={"origin": origin, "cookie": "a=b"})
        assert (preflight.status_code, answer.status_code) == (200, 404)
        for one in (preflight, answer):
            assert one.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in one.headers


async def test_only_listed_origins_reach_a_private_network(api: FastAPI) -> None:
    headers = {"origin": PAGE, **PREFLIGHT, "access-control-request-private-network": "true"}
    for origins, status in (([PAGE], 200), (["*"], 400)):
        answer = await caller(surrounded(api, origins, ())).options("/", headers=headers)
        assert answer.status_code == status


async def test_other_requests_for_options_are_answered_as_before(listed: httpx.AsyncClient) -> None:
    answer = await listed.options("/v1/classify", headers={"origin": PAGE})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


async def test_the_prefix_is_the_server_of_the_document(registry: FakeRegistry) -> None:
    context = ApiContext(registry, Lifecycle(), root_path="/quartet")
    client = caller(build_api(context))
    assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/quartet"}]
    assert (await client.get("/openapi.json?relative")).json()["servers"] == [{"url": "."}]
    assert (await client.get("/docs/assets/swagger-ui.css")).status_code == 200


class Records(list[RequestRecord]):
    """Keeps the records of ended requests."""

    def ended(self, request: RequestRecord, route: str, seconds: float) -> None:
        self.append(request)


async def seen(
    registry: FakeRegistry, peer: str, headers: Sequence[tuple[str, str]]
) -> tuple[str | None, str]:
    """Return the client and the scheme of a request that a peer sends."""
    records = Records()
    api = build_api(ApiContext(registry, Lifecycle(), ApiLimits(), observer=records))
    proxies = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
    await caller(surrounded(api, (), proxies), peer).get("/health/live", headers=[*headers])
    return records[0].client, records[0].scheme


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["1.1.1.1, 203.0.113.9, 10.0.0.2, fd00::7"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (["1.1.1.1, <script>, 10.0.0.2"], "10.0.0.2"),
        (["1.1.1.1, unknown"], "10.0.0.1"),
        (["fe80::1%\tforged=1"], "fe80::1"),
        (["1" * 60_000], "10.0.0.1"),
        ([",,, ,"], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
    ids=str,
)
async def test_a_trusted_proxy_tells_the_client(
    registry: FakeRegistry, forwarded: list[str], client: str
) -> None:
    headers = [("x-forwarded-for", value) for value in forwarded]
    assert await seen(registry, "10.0.0.1", headers) == (client, "http")
    assert await seen(registry, "::ffff:10.0.0.1", headers) == (client, "http")


@pytest.mark.parametrize(
    ("values", "scheme"),
    [(["https"], "https"), (["HTTPS"], "https"), (["https", "http"], "http"), (["a\n"], "http")],
)
async def test_a_trusted_proxy_tells_the_scheme(
    registry: FakeRegistry, values: list[str], scheme: str
) -> None:
    headers = [("x-forwarded-proto", value) for value in values]
    assert await seen(registry, "10.0.0.1", headers) == ("10.0.0.1", scheme)


@pytest.mark.parametrize("peer", ["203.0.113.9", "11.0.0.1", "2001:db8::1"])
async def test_nobody_else_is_believed(registry: FakeRegistry, peer: str) -> None:
    headers = [("x-forwarded-for", "10.0.0.1, 1.2.3.4"), ("x-forwarded-proto", "https")]
    assert await seen(registry, peer, headers) == (peer, "http")


@pytest.mark.parametrize(
    ("server", "client", "scheme"),
    [(["/run/quartet.sock", None], "1.2.3.4", "https"), (["10.0.0.1", 8000], None, "http")],
    ids=["unix socket", "connection that is gone"],
)
async def test_the_unix_socket_has_no_address_and_is_trusted(
    server: list[Any], client: str | None, scheme: str
) -> None:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append((scope.get("quartet.client"), scope["scheme"]))

    headers = [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": None, "server": server, "scheme": "http"}
    await surrounded(app, (), [ip_network("10.0.0.0/8")])(
        {**scope, "headers": headers},
        None,
        None,  # type: ignore[arg-type]
    )
    assert found == [(client, scheme)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "https://app.example.org/"),
        ("CORS_ORIGINS", "https://App.example.org"),
        ("CORS_ORIGINS", "https://app.example.org:443"),
        ("CORS_ORIGINS", "https://*.example.org"),
        ("CORS_ORIGINS", "app.example.org"),
        ("ROOT_PATH", "quartet"),
        ("ROOT_PATH", "/quartet/"),
        ("ROOT_PATH", "/"),
        ("FORWARDED_ALLOW_IPS", "*"),
        ("FORWARDED_ALLOW_IPS", "proxy"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
    ],
)
def test_settings_that_would_never_match_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"QUARTET_SERVER__{name}"):
        read_settings({f"QUARTET_SERVER__{name}": value})


def test_settings_are_lists() -> None:
    server = read_settings(
        {
            "QUARTET_SERVER__CORS_ORIGINS": f"{PAGE},http://localhost:3000,http://[::1]:3000",
            "QUARTET_SERVER__FORWARDED_ALLOW_IPS": "10.0.0.0/8, ::1",
        }
    ).server
    assert server.cors_origins == (PAGE, "http://localhost:3000", "http://[::1]:3000")
    assert [str(one) for one in server.forwarded_allow_ips] == ["10.0.0.0/8", "::1/128"]
