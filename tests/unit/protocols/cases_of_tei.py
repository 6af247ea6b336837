"""Cases of text-embeddings-inference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from service.protocols.tei import TEI
from tests.unit.protocols.case import Case
from tests.unit.protocols.cases_of_rerank import NATIVE, TEXTS, cosines


def unit_vectors(answer: Any) -> Any:
    """Return vectors of unit length, which this protocol gives by default."""
    rows = [np.array(one["embedding"]) for one in answer["results"]]
    return [pytest.approx((row / np.linalg.norm(row)).tolist()) for row in rows]


def _in_order(answer: Any) -> Any:
    return [score for _, score in sorted(cosines(answer), key=lambda one: one[0])]


def _labels(answer: Any) -> Any:
    return [{one["label"]: one["score"] for one in labels} for labels in answer]


def _native_labels(answer: Any) -> Any:
    return [{one["label"]: one["score"] for one in row["labels"]} for row in answer["results"]]


def _inputs(text: str) -> Mapping[str, Any]:
    return {"inputs": text}


_HOSTILE = (
    b'{"inputs": []}',
    b'{"inputs": ""}',
    b'{"inputs": {}}',
    b'{"inputs": ["a", 5]}',
    b'{"inputs": ["a", null]}',
    b'{"inputs": "a", "truncate": "perhaps"}',
    b'{"inputs": "a", "truncation_direction": "up"}',
)
_OF_VECTORS = (
    *_HOSTILE,
    b'{"inputs": [1, 2, 3]}',
    b'{"inputs": [[1, 2], [3]]}',
    b'{"inputs": [["a"]]}',
    b'{"inputs": "a", "dimensions": 0}',
    b'{"inputs": "a", "normalize": "no way"}',
)

TEI_CASES = [
    *(
        Case(
            TEI,
            path,
            {"inputs": TEXTS},
            _inputs,
            "/v1/embed",
            {"text": TEXTS},
            list,
            unit_vectors,
            _OF_VECTORS,
        )
        for path in ("/embed", "/tei/emoji/embed", "/", "/tei/emoji")
    ),
    *(
        Case(
            TEI,
            path,
            {"inputs": [[TEXTS[0]], TEXTS]},
            _inputs,
            "/v1/classify",
            {"text": [TEXTS[0], {"text": TEXTS[0], "text_pair": TEXTS[1]}]},
            _labels,
            _native_labels,
            (
                *_HOSTILE,
                b'{"inputs": [["a", "b", "c"]]}',
                b'{"inputs": [[]]}',
                b'{"inputs": [[5]]}',
            ),
        )
        for path in ("/predict", "/tei/news-topics/predict", "/tei/news-topics")
    ),
    *(
        Case(
            TEI,
            path,
            {"query": "a pet", "texts": TEXTS},
            lambda text: {"query": "a", "texts": [text]},
            "/v1/embed",
            NATIVE,
            lambda answer: [(one["index"], one["score"]) for one in answer],
            cosines,
            (
                b'{"texts": ["a"]}',
                b'{"query": "a", "texts": "a"}',
                b'{"query": "a", "texts": []}',
                b'{"query": "a", "texts": ["a", 5]}',
                b'{"query": 5, "texts": ["a"]}',
                b'{"query": "a", "texts": ["a"], "raw_scores": "often"}',
            ),
        )
        for path in ("/rerank", "/tei/emoji/rerank")
    ),
    *(
        Case(
            TEI,
            path,
            {"inputs": TEXTS},
            _inputs,
            "/v1/embed",
            {"text": TEXTS, "output": "tokens"},
            list,
            lambda answer: [one["embedding"] for one in answer["results"]],
            _HOSTILE,
        )
        for path in ("/embed_all", "/tei/emoji/embed_all")
    ),
    *(
        Case(
            TEI,
            path,
            {"inputs": TEXTS},
            _inputs,
            "/v1/embed",
            {"text": TEXTS, "output": "sparse"},
            lambda answer: [[(one["index"], one["value"]) for one in row] for row in answer],
            lambda answer: [
                list(zip(one["indices"], one["embedding"], strict=True))
                for one in answer["results"]
            ],
            _HOSTILE,
        )
        for path in ("/embed_sparse", "/tei/splade/embed_sparse", "/tei/splade")
    ),
    Case(
        TEI,
        "/similarity",
        {"inputs": {"source_sentence": "a pet", "sentences": TEXTS}},
        lambda text: {"inputs": {"source_sentence": "a", "sentences": [text]}},
        "/v1/embed",
        NATIVE,
        list,
        _in_order,
        (
            b'{"inputs": "a"}',
            b'{"inputs": {"source_sentence": "a"}}',
            b'{"inputs": {"source_sentence": "a", "sentences": []}}',
            b'{"inputs": {"source_sentence": "a", "sentences": [5]}}',
            b'{"inputs": {"source_sentence": "a", "sentences": ["a"]}, "parameters": 5}',
        ),
    ),
]
