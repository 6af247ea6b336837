"""What the HTTP border tells of a request that has ended."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest

from service.api import ApiContext, build_api
from service.telemetry.record import RequestRecord, Timings
from tests.unit.api.fakes import FakeRegistry


@dataclass(frozen=True)
class Told:
    """One recorded request."""

    route: str
    status: int
    code: str
    model: str | None
    items: int
    cache: str | None
    received: int
    sent: int
    timings: Timings | None


class Listener:
    """Keeps what it records."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.ids: list[str] = []

    def ended(self, request: RequestRecord, route: str, seconds: float) -> None:
        assert seconds > 0
        model = request.model and f"{request.model.name}/{request.model.version}"
        told = Told(
            route,
            request.status,
            request.code,
            model,
            request.item_count,
            request.cache,
            request.received,
            request.sent,
            request.timings,
        )
        self.told.append(told)
        self.ids.append(request.request_id)
        if request.received:
            assert request.started < request.read_at <= request.started + seconds


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def client(context: ApiContext, listener: Listener) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_api(replace(context, observer=listener)))
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        yield client


async def test_an_answer_is_told_with_who_gave_it_and_where_the_time_went(
    client: httpx.AsyncClient, listener: Listener
) -> None:
    response = await client.post("/v1/classify", json={"text": "a"})
    (told,) = listener.told
    timings = Timings(0.001, 0.002, 0.003, 0.004, 0.005)
    sizes = len(response.request.content), len(response.content)
    assert told == Told("/v1/classify", 200, "ok", "news-topics/1", 1, "miss", *sizes, timings)
    assert listener.ids == [response.headers["x-request-id"]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"text": "overloaded"}, (429, "overloaded", "news-topics/1", 1)),
        ({"text": ["a", "inference"]}, (500, "inference_failed", "news-topics/1", 2)),
        ({"text": "bug"}, (500, "internal_error", "news-topics/1", 1)),
        ({"text": "a", "model": "other"}, (404, "model_not_found", None, 1)),
        ({"text": 1}, (422, "invalid_input", None, 0)),
    ],
)
async def test_a_refusal_is_told_with_its_code(
    client: httpx.AsyncClient,
    listener: Listener,
    body: object,
    expected: tuple[int, str, str | None, int],
) -> None:
    response = await client.post("/v1/classify", json=body)
    (told,) = listener.told
    assert (told.status, told.code, told.model, told.items) == expected
    assert (response.status_code, response.json()["code"]) == expected[:2]


async def test_what_no_route_takes_is_told_without_its_path(
    client: httpx.AsyncClient, listener: Listener
) -> None:
    await client.get("/secret")
    (told,) = listener.told
    assert (told.route, told.status, told.code) == ("_unknown_", 404, "not_found")


async def test_readiness_is_told_with_why_there_is_none(
    client: httpx.AsyncClient, listener: Listener, registry: FakeRegistry
) -> None:
    registry.reasons = {"zh-en": "loading"}
    await client.get("/health/ready")
    (told,) = listener.told
    assert (told.route, told.status, told.code) == ("/health/ready", 503, "model_not_ready")


async def test_who_left_is_told_so(
    context: ApiContext, listener: Listener, registry: FakeRegistry
) -> None:
    app = build_api(replace(context, observer=listener))
    body = b'{"text": "wait"}'
    messages = iter([{"type": "http.request", "body": body}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: object) -> None:
        raise AssertionError("nobody is there to be answered")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await asyncio.wait_for(app(scope, receive, send), 5)
    (told,) = listener.told
    assert (told.status, told.code, told.sent) == (499, "client_left", 0)
