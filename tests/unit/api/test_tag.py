"""POST /v1/classify for labelled spans."""

from typing import Any

import httpx
import pytest

from service.tasks import TagItem

SPAN = {"label": "LOC", "score": 0.75, "start": 0, "end": 5, "text": "Paris"}


async def test_texts_are_tagged(client: httpx.AsyncClient, registry: Any) -> None:
    body = {"text": ["Paris", "Rome!"], "aggregate": "max", "stride": 3}
    answer = await client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "names"
    assert answer.json()["results"][0] == {"spans": [SPAN], "windows": 1}
    asked = [item for item, _ in registry.named("names").asked]
    assert asked == [TagItem("Paris", "max", 3), TagItem("Rome!", "max", 3)]


async def test_a_token_classifier_that_is_named_needs_no_aggregate(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/classify", json={"text": "Paris", "model": "names"})
    assert answer.json()["results"] == [{"spans": [SPAN], "windows": 1}]
    other = await client.post("/v1/classify", json={"text": "Paris", "model": "news-topics"})
    assert "labels" in other.json()["results"][0]


@pytest.mark.parametrize(
    "more",
    [
        {"image": "AAAA"},
        {"text": "a", "top_k": 3},
        {"text": "a", "labels": ["x", "y"]},
        {"text": "a", "aggregate": "sum"},
        {"text": "a", "stride": -1},
        {"aggregate": "none"},
    ],
)
async def test_what_a_token_classifier_cannot_do_is_refused(
    client: httpx.AsyncClient, more: dict[str, Any]
) -> None:
    answer = await client.post("/v1/classify", json={"aggregate": "first", **more})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_input"


async def test_one_bad_text_does_not_lose_the_others(client: httpx.AsyncClient) -> None:
    body = {"text": ["Paris", {"text": "a", "text_pair": "b"}, ""], "aggregate": "simple"}
    answer = await client.post("/v1/classify", json=body)
    assert [one["index"] for one in answer.json()["errors"]] == [1, 2]
    assert answer.json()["results"][0]["spans"] == [SPAN]
