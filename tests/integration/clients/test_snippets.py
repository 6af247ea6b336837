"""The snippets of docs/clients.md give the answers of the native routes."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.openapi import sample
from tests.integration.clients.environment import run, run_javascript, snippets
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


def distances(service: RealService) -> Any:
    """Return documents and distances as chromadb does: one less the cosine."""
    return [
        [DOCUMENTS[place], pytest.approx(1 - cosine.expected, abs=1e-5)]
        for place, cosine in ranking(service)
    ]


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


def best(service: RealService, path: str, **body: Any) -> Any:
    (label,) = post(service, path, top_k=1, **body)["results"][0]["labels"]
    return [label["label"], pytest.approx(label["score"], abs=1e-6)]


def topic(service: RealService) -> Any:
    return best(service, "/v1/classify", text="Stocks fall as oil prices slide")


def cards(service: RealService, **more: Any) -> Any:
    answer = post(service, "/v1/detect", image=sample("cards.jpg"), **more)
    found = answer["results"][0]["objects"]
    return [(one["label"], pytest.approx(one["score"], abs=1e-6), one["box"]) for one in found]


def translations(service: RealService) -> Any:
    texts = ["我喜欢喝茶。", "她在图书馆工作。"]
    return [one["translation"] for one in post(service, "/v1/translate", text=texts)["results"]]


def chosen(service: RealService, **body: Any) -> Any:
    answer = post(service, "/v1/classify", labels=["a dog", "a melon"], model="emoji", **body)
    found = answer["results"][0]["labels"]
    return [[one["label"], pytest.approx(one["score"], abs=1e-6)] for one in found]


def similar(service: RealService) -> Any:
    texts = ["dog face", "狗脸", "watermelon"]
    results = post(service, "/v1/embed", text=texts)["results"]
    source, *others = (np.array(one["embedding"]) for one in results)
    return [pytest.approx(float(source @ other), abs=1e-5) for other in others]


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
            vectors(service, normalize=False)[0],
            [[DOCUMENTS[place], score] for place, score in ranking(service)],
        ],
    ),
    "llama-index": (
        "[vectors, [[one.node.text, one.score] for one in ranked]]",
        lambda service: [
            vectors(service),
            [[DOCUMENTS[place], score] for place, score in ranking(service)],
        ],
    ),
    "chromadb": (
        "[vectors, distances]",
        lambda service: [vectors(service), distances(service)],
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
    "libretranslatepy": (
        "[translation, detected, codes]",
        lambda service: [*translations(service)[:1], "zh", ["en", "zh"]],
    ),
    "deep_translator": ("translations", translations),
    "huggingface_hub, InferenceClient": (
        "[[topic.label, topic.score], [digit.label, digit.score], "
        "[[one.label, one.score] for one in cards], translation, vectors.tolist(), similar, "
        "[[[one.label, one.score] for one in found] for found in (choices, pictures)]]",
        lambda service: [
            topic(service),
            best(service, "/v1/classify", image=sample("digit.png")),
            [[label, score] for label, score, _ in cards(service, threshold=0.3)],
            translations(service)[0],
            vectors(service),
            similar(service),
            [chosen(service, text="小狗"), chosen(service, image=sample("emoji.png"))],
        ],
    ),
    "deepstack_sdk": (
        "cards",
        lambda service: [
            [label, *(int(at + 0.5) for at in box)]
            for label, _, box in cards(service, threshold=0.3)
        ],
    ),
}
"""By heading: an expression over the names of the snippet, and the value that it must have."""


@pytest.mark.parametrize("name", snippets())
def test_a_snippet_gives_the_native_answer(service: RealService, name: str) -> None:
    result, expected = SNIPPETS[name]
    assert run(service, snippets()[name], result) == expected(service)


def test_every_check_is_of_a_snippet() -> None:
    assert set(SNIPPETS) == set(snippets())


def test_the_snippet_for_node_gives_the_native_answers(service: RealService) -> None:
    ((name, code),) = snippets("js").items()
    assert name == "@huggingface/inference"
    result = (
        "[[topics[0].label, topics[0].score], cards.map((one) => [one.label, one.score]), "
        "translation.translation_text, vectors]"
    )
    assert run_javascript(service, code, result) == [
        topic(service),
        [[label, score] for label, score, _ in cards(service)],
        translations(service)[0],
        vectors(service),
    ]
