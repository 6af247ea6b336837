"""Sparse vectors and vectors of tokens by /v1/embed."""

from typing import Any

import httpx
import pytest

from service.requests import token_vectors
from tests.unit.api.fakes import DIMENSIONS


async def embed(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/embed", json=body)


async def test_a_sparse_vector_has_weights_and_their_places(client: httpx.AsyncClient) -> None:
    answer = (await embed(client, text="dog", output="sparse")).json()
    assert answer["model"] == "splade"
    assert answer["results"] == [{"indices": [3, 9], "embedding": [0.5, 1.0]}]
    assert "dimensions" not in answer


async def test_every_token_has_a_vector(client: httpx.AsyncClient, registry: Any) -> None:
    answer = (await embed(client, text="dog", output="tokens", normalize=True)).json()
    assert (answer["model"], answer["dimensions"]) == ("emoji", DIMENSIONS)
    assert answer["results"][0]["embedding"] == [[0.5] * DIMENSIONS] * 2
    item = registry.named("emoji").asked[0][0]
    assert (item.form, item.normalize) == ("tokens", True)


@pytest.mark.parametrize(
    "body",
    [
        {"text": "a", "output": "sparse", "dimensions": 2},
        {"text": "a", "output": "sparse", "normalize": False},
        {"text": "a", "image": "AAAA", "output": "tokens"},
        {"image": "AAAA", "output": "sparse"},
    ],
)
async def test_what_a_form_does_not_have_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await embed(client, **body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_the_numbers_of_a_request_are_bounded(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_vectors, "MOST_NUMBERS", 2 * DIMENSIONS)
    answer = await embed(client, text=["a", "b"], output="tokens")
    assert answer.status_code == 413
    assert [error["index"] for error in answer.json()["errors"]] == [1]
