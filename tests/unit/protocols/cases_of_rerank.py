"""Cases of the rerankers' routes."""

from typing import Any

import numpy as np
import pytest

from service.protocols.rerank import RERANK
from tests.unit.protocols.case import Case

TEXTS = ["dog face", "狗脸"]
NATIVE = {"text": ["a pet", *TEXTS]}


def cosines(answer: Any) -> Any:
    """Return the cosine of the first vector with each of the others, by descending cosine."""
    query, *others = (np.array(one["embedding"]) for one in answer["results"])
    found = [
        float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)) for other in others
    ]
    order = sorted(range(len(found)), key=lambda place: -found[place])
    return [(place, pytest.approx(found[place])) for place in order]


RERANK_CASES = [
    Case(
        RERANK,
        path,
        {"query": "a pet", "documents": TEXTS},
        lambda text: {"query": "a", "documents": [text]},
        "/v1/embed",
        NATIVE,
        lambda answer: [(one["index"], one["relevance_score"]) for one in answer["results"]],
        cosines,
        (
            b'{"documents": ["a"]}',
            b'{"query": "a"}',
            b'{"query": "", "documents": ["a"]}',
            b'{"query": ["a"], "documents": ["a"]}',
            b'{"query": "a", "documents": []}',
            b'{"query": "a", "documents": "a"}',
            b'{"query": "a", "documents": ["a", {}]}',
            b'{"query": "a", "documents": ["a", {"text": 5}]}',
            b'{"query": "a", "documents": ["a", ""]}',
            b'{"query": "a", "documents": [["a"]]}',
            b'{"query": "a", "documents": ["a"], "top_n": 0}',
            b'{"query": "a", "documents": ["a"], "top_n": "many"}',
            b'{"query": "a", "documents": ["a"], "model": "none"}',
        ),
    )
    for path in ("/v1/rerank", "/v2/rerank", "/rerank")
]
