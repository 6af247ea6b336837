from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.page.page import page_routes
from tests.unit.api.fakes import FakeRegistry

TOKEN = "correct-horse"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def limits() -> ApiLimits:
    return ApiLimits(max_body_bytes=100_000, max_items=8, max_characters=1000)


@pytest.fixture
def context(registry: FakeRegistry, limits: ApiLimits) -> ApiContext:
    return ApiContext(registry, Lifecycle(), limits, admin_token=TOKEN)


@pytest.fixture
def api(context: ApiContext) -> FastAPI:
    return build_api(context, None, page_routes())


@pytest.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        yield client
