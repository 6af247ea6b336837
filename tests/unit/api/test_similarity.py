"""POST /v1/similarity: what is read, and what is refused."""

import base64
from typing import Any

import httpx
import pytest

from tests.sentences import sentence
from tests.unit.api.images import PNG

BASE64 = base64.b64encode(PNG).decode()


async def test_texts_and_images_are_compared_with_one(client: httpx.AsyncClient) -> None:
    bodies: list[dict[str, Any]] = [
        {"json": {"source_text": "a", "text": ["b", "c"], "image": BASE64}},
        {"json": {"source_image": BASE64, "image": [BASE64, BASE64, BASE64]}},
        {"files": [("source_image", ("a.png", PNG)), *[("image", ("a.png", PNG))] * 3]},
    ]
    for body in bodies:
        response = await client.post("/v1/similarity", **body)
        assert response.status_code == 200, response.text
        scores = [result["score"] for result in response.json()["results"]]
        assert scores == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    "body",
    [
        {"text": "b"},
        {"source_text": "a"},
        {"source_text": "a", "source_image": BASE64, "text": "b"},
        {"source_text": "", "text": "b"},
        {"source_text": "inference", "text": ["b"]},
    ],
)
async def test_a_comparison_that_cannot_be_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    response = await client.post("/v1/similarity", json=body)
    assert response.status_code in (422, 500)
    assert sentence(response.json()["detail"])


async def test_a_comparison_that_fails_is_named_and_the_others_are_answered(
    client: httpx.AsyncClient,
) -> None:
    body = {"source_text": "a", "text": ["b", "inference", "c"]}
    response = await client.post("/v1/similarity", json=body)
    assert [fault["index"] for fault in response.json()["errors"]] == [1]
    first, second, third = response.json()["results"]
    assert (first, second, third) == ({"score": pytest.approx(1)}, None, first)
