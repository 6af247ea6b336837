"""Cases of infinity, vLLM's /classify, Weaviate's containers, SageMaker and Vertex AI."""

from typing import Any

from service.protocols.infinity import INFINITY, VLLM
from service.protocols.tei import TEI
from service.protocols.weaviate import WEAVIATE
from tests.unit.protocols.case import Case
from tests.unit.protocols.cases_of_rerank import NATIVE, TEXTS, cosines
from tests.unit.protocols.cases_of_tei import unit_vectors

_CLASSIFY = {"text": TEXTS}
_VECTORS = (
    b'{"text": ""}',
    b'{"text": "a", "texts": ["a"]}',
    b'{"texts": []}',
    b'{"texts": ["a", 5]}',
    b'{"text": 5}',
    b'{"text": "a", "config": 5}',
    b'{"text": "a", "config": {"dimensions": -1}}',
)


def _of_classify(**more: Any) -> tuple[bytes, ...]:
    ending = b', "raw_scores": false}' if more.get("raw_scores") is False else b"}"
    return tuple(
        body + ending
        for body in (
            b'{"model": "news-topics"',
            b'{"input": ""',
            b'{"input": []',
            b'{"input": [1, 2]',
            b'{"input": [["a"]]',
            b'{"input": ["a", null]',
            b'{"input": "a", "model": "none"',
        )
    )


def _native_labels(answer: Any) -> Any:
    return [[(one["label"], one["score"]) for one in row["labels"]] for row in answer["results"]]


def _native_best(answer: Any) -> Any:
    rows = [row["labels"] for row in answer["results"]]
    return [(labels[0]["label"], [one["score"] for one in labels]) for labels in rows]


def _native_vectors(answer: Any) -> Any:
    return [one["embedding"] for one in answer["results"]]


def _by_place(answer: Any) -> Any:
    return [(TEXTS[place], score) for place, score in sorted(cosines(answer), key=lambda p: p[0])]


OTHER_CASES = [
    Case(
        INFINITY,
        "/classify",
        {"input": TEXTS, "raw_scores": False},
        lambda text: {"input": text, "raw_scores": False},
        "/v1/classify",
        _CLASSIFY,
        lambda answer: [[(one["label"], one["score"]) for one in row] for row in answer["data"]],
        _native_labels,
        _of_classify(raw_scores=False),
    ),
    Case(
        VLLM,
        "/classify",
        {"input": TEXTS},
        lambda text: {"input": text},
        "/v1/classify",
        _CLASSIFY,
        lambda answer: [(row["label"], row["probs"]) for row in answer["data"]],
        _native_best,
        _of_classify(),
    ),
    Case(
        WEAVIATE,
        "/vectors",
        {"texts": TEXTS, "config": {"task_type": "query"}},
        lambda text: {"text": text},
        "/v1/embed",
        _CLASSIFY,
        lambda answer: answer["vectors"],
        _native_vectors,
        _VECTORS,
    ),
    Case(
        WEAVIATE,
        "/vectorize",
        {"texts": TEXTS, "images": None},
        lambda text: {"texts": [text]},
        "/v1/embed",
        _CLASSIFY,
        lambda answer: answer["textVectors"],
        _native_vectors,
        (b'{"texts": null}', b'{"texts": [5]}', b'{"images": ["AAAA"]}', b'{"images": "AAAA"}'),
    ),
    Case(
        WEAVIATE,
        "/rerank",
        {"query": "a pet", "documents": TEXTS, "property": "text"},
        lambda text: {"query": "a", "documents": [text], "property": "text"},
        "/v1/embed",
        NATIVE,
        lambda answer: [(one["document"], one["score"]) for one in answer["scores"]],
        _by_place,
        (
            b'{"query": "a", "documents": [], "property": "text"}',
            b'{"query": "a", "documents": [5], "property": "text"}',
            b'{"documents": ["a"], "property": "text"}',
        ),
    ),
    Case(
        TEI,
        "/invocations",
        {"inputs": TEXTS},
        lambda text: {"inputs": text},
        "/v1/embed",
        _CLASSIFY,
        list,
        unit_vectors,
        (b'{"inputs": []}', b'{"inputs": [5]}'),
    ),
    Case(
        TEI,
        "/vertex",
        {"instances": [{"inputs": text} for text in TEXTS]},
        lambda text: {"instances": [{"inputs": text}]},
        "/v1/embed",
        _CLASSIFY,
        lambda answer: [vector for (vector,) in answer["predictions"]],
        unit_vectors,
        (
            b'{"instances": []}',
            b'{"instances": [5]}',
            b'{"instances": [{"inputs": "a"}, {"inputs": ""}]}',
            b'{"instances": {"inputs": "a"}}',
        ),
    ),
]
