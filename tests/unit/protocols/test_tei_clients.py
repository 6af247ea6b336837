"""Requests as clients of text-embeddings-inference send them that are too large to install here.

chromadb's HuggingFaceEmbeddingServer, and llama-index's TextEmbeddingsInference (embedding) and
TextEmbeddingInference (postprocessor). The bodies are those that their sources build.
"""

from typing import Any

import httpx
import numpy as np
import pytest

TEXTS = ["dog face", "watermelon"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"inputs": TEXTS}, id="chromadb"),
        pytest.param({"inputs": TEXTS, "truncate": True}, id="llama-index"),
    ],
)
@pytest.mark.parametrize("path", ["/embed", "/tei/emoji/embed"])
async def test_vectors_are_a_list_for_each_text(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    answer = (await client.post(path, json=body)).json()
    arrays = [np.array(vector, np.float32) for vector in answer]
    assert len(arrays) == len(TEXTS)
    assert {array.ndim for array in arrays} == {1}


async def test_ranks_have_index_and_score(client: httpx.AsyncClient) -> None:
    body = {
        "query": "a pet",
        "raw_scores": False,
        "return_text": False,
        "texts": TEXTS,
        "truncate": True,
    }
    answer = (await client.post("/rerank", json=body)).json()
    assert sorted(one["index"] for one in answer) == [0, 1]
    assert all(isinstance(one["score"], float) and "text" not in one for one in answer)
