"""The files that a request passes are those that ARCHITECTURE.md lists, in their order."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api import Lifecycle
from service.app import build_app
from service.engine.curve import BatchCurve
from service.settings import Settings

pytestmark = [pytest.mark.looptime(False), pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
HEADING = "## The walk of a request"
MOST_FILES = 24
MOST_NAMES = 30

_is_traced = ContextVar("is_traced", default=False)


class Trace:
    """Files of `service/` whose functions run in the context of one request."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._prefix = f"{ROOT}/"

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(f"{self._prefix}service/") and _is_traced.get():
            path = name.removeprefix(self._prefix)
            if path not in self.files:
                self.files.append(path)


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    # Whether a lone short item runs inline depends on measured times; here it does.
    monkeypatch.setattr(BatchCurve, "longest_short", lambda _: 10_000)
    models = {"repository": ROOT / "models/repository", "only": ["news-topics"], "device": "cpu"}
    app = build_app(Settings.model_validate({"models": models}), Lifecycle())
    async with app.router.lifespan_context(app):
        yield app


async def traced(app: FastAPI, text: str) -> list[str]:
    """Return the files that the request for a text entered, in order."""
    body = b'{"text":"%s"}' % text.encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    status: list[int] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        status.append(message.get("status", 200))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    trace = Trace()
    _is_traced.set(True)
    sys.setprofile(trace)
    try:
        await app(scope, receive, send)
        await asyncio.sleep(0)  # what is counted after the answer
    finally:
        sys.setprofile(None)
    assert set(status) == {200}
    return trace.files


def section() -> str:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return text.partition(HEADING)[2].partition("\n## ")[0]


def documented() -> list[str]:
    return re.findall(r"^\d+\. `(service/[^`]+\.py)`", section(), re.MULTILINE)


async def test_the_walk_of_a_request_is_documented(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    files = await traced(app, "Stocks fall as oil prices slide")
    assert files == documented(), "\n".join(files)
    assert len(files) <= MOST_FILES


def test_the_names_of_our_own_on_the_walk_are_few_and_exist() -> None:
    names = re.findall(r"`(\w+)`", section().partition("names of our own")[2])
    assert len(names) == len(set(names)) <= MOST_NAMES
    assert f"these {len(names)} names" in section()
    defined = {
        name
        for path in (ROOT / "service").rglob("*.py")
        for name in re.findall(r"^(?:class|def) (\w+)", path.read_text(), re.MULTILINE)
    }
    assert set(names) <= defined
