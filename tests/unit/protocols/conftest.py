import pytest
from fastapi import FastAPI

from service.api import ApiContext, build_api
from service.page.page import page_routes
from service.protocols import protocol_routes
from tests.unit.api.conftest import client, context, limits, registry

__all__ = ["client", "context", "limits", "registry"]


@pytest.fixture
def api(context: ApiContext) -> FastAPI:
    return build_api(context, None, [*protocol_routes(), *page_routes()])
