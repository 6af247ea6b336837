"""How many inputs a request for OpenAI's embeddings may have."""

from typing import Any

import httpx
import pytest

from service.api import ApiContext
from service.errors import OverloadedError
from tests.unit.api.fakes import FakePipeline


async def embed(client: httpx.AsyncClient, inputs: list[str]) -> httpx.Response:
    return await client.post("/v1/embeddings", json={"input": inputs, "model": "emoji"})


async def test_a_thousand_texts_are_answered_in_order(
    client: httpx.AsyncClient, context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, most = 0, 0
    plain = FakePipeline.answer

    async def counted(self: FakePipeline, *given: Any) -> Any:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        if asked > context.limits.max_items:
            raise OverloadedError("the queue is full")
        try:
            return await plain(self, *given)
        finally:
            asked -= 1

    monkeypatch.setattr(FakePipeline, "answer", counted)
    response = await embed(client, [str(number) for number in range(1000)])
    assert response.status_code == 200, response.text
    assert [one["index"] for one in response.json()["data"]] == list(range(1000))
    assert 0 < most <= context.limits.max_items


async def test_too_many_inputs_or_characters_are_refused(
    client: httpx.AsyncClient, context: ApiContext
) -> None:
    limits = context.limits
    longest = "a" * limits.max_characters
    long = await embed(client, [longest] * (limits.max_items + 1))
    many = await embed(client, ["a"] * 2049)
    images = await embed(client, ["data:image/png;base64,AAAA"] * (limits.max_items + 1))
    assert [one.status_code for one in (long, many, images)] == [413] * 3
