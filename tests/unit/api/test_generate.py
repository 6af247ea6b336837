"""POST /v1/generate: what is read, what is refused, and what is streamed."""

import json
from typing import Any

import httpx
import pytest

from service.tasks import GenerateItem
from tests.unit.api.fakes import FakeRegistry

URL = "/v1/generate"


async def test_every_option_reaches_the_item(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    body = {
        "text": ["a", "b"],
        "prefix": "summarize: ",
        "num_beams": 3,
        "length_penalty": 2.0,
        "max_length": 40,
        "min_new_tokens": 5,
        "alternatives": 2,
    }
    response = await client.post(URL, json=body)
    results = [{"text": f"<{text}>", "truncated": False, "finish_reason": "stop"} for text in "ab"]
    assert response.json() == {"model": "writer", "version": 1, "results": results}
    asked = registry.pipelines["generate", "text"].asked  # type: ignore[index]
    assert [item for item, _ in asked] == [
        GenerateItem(text, "summarize: ", 3, 2.0, 40, 5, 2) for text in "ab"
    ]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"text": "a", "temperature": 0.5}, "temperature"),
        ({"text": "a", "do_sample": True}, "do_sample"),
        ({"text": "a", "max_length": 5, "max_new_tokens": 5}, "are the same"),
        ({"text": []}, "no items"),
        ({"prefix": "a"}, "text"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(
    client: httpx.AsyncClient, body: dict[str, Any], detail: str
) -> None:
    response = await client.post(URL, json=body)
    assert (response.status_code, detail in response.json()["detail"]) == (422, True)


async def test_one_text_that_fails_does_not_fail_the_others(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json={"text": ["a", "inference", ""]})
    body = response.json()
    assert [fault["index"] for fault in body["errors"]] == [1, 2]
    assert [result and result["text"] for result in body["results"]] == ["<a>", None, None]


async def test_texts_are_streamed_in_order(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json={"text": ["a", "b\nc"], "stream": "texts"})
    start, one, two, end = map(json.loads, response.text.splitlines())
    assert (start["event"], start["items"], start["total"]) == ("start", 2, 2)
    assert [(each["item"], each["text"]) for each in (one, two)] == [(0, "<a>"), (1, "<b\nc>")]
    assert (end["event"], end["done"], end["failed"]) == ("end", 2, 0)


async def test_tokens_are_streamed_by_models_in_flight_only(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    response = await client.post(URL, json={"text": "a", "stream": "tokens"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    registry.pipelines["generate", "text"].is_in_flight = True  # type: ignore[index]
    response = await client.post(URL, json={"text": "a", "stream": "tokens"})
    assert response.status_code == 200
