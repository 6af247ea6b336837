"""The snippets of docs/clients.md give the answers of the native routes."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.clients.environment import run, snippets
from tests.integration.real_service import ROOT, RealService

pytestmark = [pytest.mark.looptime(False)]

TEXTS = ["dog face", "狗脸"]
MODELS = ["cards", "digits", "emoji", "news-topics", "zh-en"]
HEADLINE = "Stocks fall as oil prices slide"
DOCUMENTS = ["watermelon", "dog face", "cat"]


def post(service: RealService, path: str, **body: Any) -> Any:
    response = httpx.post(f"{service.url}{path}", json=body, timeout=120)
    assert response.status_code == 200, response.text
    return response.json()


def vectors(service: RealService, **more: Any) -> Any:
    results = post(service, "/v1/embed", text=TEXTS, **more)["results"]
    return [pytest.approx(result["embedding"], abs=1e-6) for result in results]


def ranking(service: RealService) -> Any:
    """Return places and cosines by descending cosine, from the native vectors."""
    results = post(service, "/v1/embed", text=["a pet", *DOCUMENTS])["results"]
    query, *documents = (np.array(result["embedding"]) for result in results)
    cosines = [float(query @ document) for document in documents]
    order = sorted(range(3), key=lambda place: -cosines[place])
    return [[place, pytest.approx(cosines[place], abs=1e-5)] for place in order]


def best_labels(service: RealService, *texts: str) -> Any:
    results = post(service, "/v1/classify", text=texts)["results"]
    best = [result["labels"][0] for result in results]
    return [[one["label"] for one in best], pytest.approx([one["score"] for one in best], abs=1e-6)]


def translation(service: RealService, text: str) -> str:
    found: str = post(service, "/v1/translate", text=text)["results"][0]["translation"]
    return found


def objects(service: RealService) -> Any:
    image = (ROOT / "service/page/samples/cards.jpg").read_bytes()
    headers = {"content-type": "image/jpeg"}
    response = httpx.post(f"{service.url}/v1/detect", content=image, headers=headers, timeout=120)
    return response.json()["results"][0]["objects"]


def labels(service: RealService) -> Any:
    return post(service, "/v1/classify", text=HEADLINE)["results"][0]["labels"]


Expected = Callable[[RealService], Any]

SNIPPETS: dict[str, tuple[str, Expected]] = {
    "openai": (
        "[vectors, models]",
        lambda service: [
            vectors(service, dimensions=64),
            MODELS,
        ],
    ),
    "langchain-openai": ("vectors", vectors),
    "litellm": ("vectors", vectors),
    "cohere": ("ranking", lambda service: ranking(service)[:2]),
    "litellm, reranking": ("ranking", lambda service: ranking(service)[:2]),
    "rerankers": ("ranking", ranking),
    "huggingface_hub": (
        "[vector, sorted(scores, reverse=True)]",
        lambda service: [vectors(service)[0], [score for _, score in ranking(service)]],
    ),
    "infinity_client": (
        "[[one.to_dict() for one in labels],"
        " [[one.index, one.relevance_score] for one in ranked], names]",
        lambda service: [
            [{"label": one["label"], "score": one["score"]} for one in labels(service)],
            ranking(service),
            MODELS,
        ],
    ),
    "haystack": (
        "[vector, [[document.content, document.score] for document in ranked]]",
        lambda service: [
            vectors(service)[0],
            [[DOCUMENTS[place], score] for place, score in ranking(service)],
        ],
    ),
    "tritonclient.http": (
        "[[label.decode() for label in labels[:, 0]], scores[:, 0].tolist()]",
        lambda service: best_labels(
            service, "Stocks fall as oil prices slide", "Comet seen from orbit"
        ),
    ),
    "tritonclient.http.aio": ("vectors.tolist()", vectors),
    "tritonclient.grpc": (
        "translation",
        lambda service: translation(service, "今天天气很好。\n\n我喜欢喝茶。"),
    ),
    "tritonclient.grpc.aio": (
        "[label.decode() for label in labels]",
        lambda service: [found["label"] for found in objects(service)],
    ),
    "kserve": ("translations", lambda service: [translation(service, "今天天气很好。")]),
}
"""By heading: an expression over the names of the snippet, and the value that it must have."""


@pytest.mark.parametrize("name", snippets())
def test_a_snippet_gives_the_native_answer(service: RealService, name: str) -> None:
    result, expected = SNIPPETS[name]
    assert run(service, snippets()[name], result) == expected(service)


def test_every_check_is_of_a_snippet() -> None:
    assert set(SNIPPETS) == set(snippets())
