"""Clients of a translation that is streamed."""

import asyncio
import json
from typing import Any, get_args

import httpx
from fastapi import FastAPI
from starlette.types import Message

from service.api.translate import TRANSLATION_EVENTS

LINES = "application/x-ndjson"


SERVER_SENT = "text/event-stream"


KINDS = {get_args(kind.model_fields["event"].annotation)[0]: kind for kind in TRANSLATION_EVENTS}


async def ask(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/translate", json=body, headers=named)


async def events(client: httpx.AsyncClient, body: Any, **headers: str) -> list[dict[str, Any]]:
    response = await ask(client, {"stream": "segments", **body}, **headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == f"{LINES}; charset=utf-8"
    told = [json.loads(line) for line in response.text.splitlines()]
    for event in told:  # as the documentation says
        kind = KINDS[event["event"]]
        kind.model_validate(event)
        assert set(event) <= set(kind.model_fields)
    return told


class Reader:
    """A client that requests a stream and reads until stopped."""

    def __init__(self, text: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.has_ended = False
        self.may_read = asyncio.Event()
        self._body = json.dumps({"text": text, "stream": "segments"}).encode()
        self._asked = False

    async def receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.told += [json.loads(line) for line in message["body"].splitlines()]
            self.has_ended = not message["more_body"]
            await self.may_read.wait()

    def ask(self, api: FastAPI) -> "asyncio.Task[None]":
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/translate",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        return asyncio.ensure_future(api(scope, self.receive, self.send))
