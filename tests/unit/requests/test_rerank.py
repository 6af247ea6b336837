"""Reranking by a classifier of pairs and by an embedder, on simple models."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from service.errors import InvalidInputError, ServiceError
from service.families.family import Opened, Traits
from service.requests.pipeline import Outcome
from service.requests.request import Request, Selection
from service.requests.rerank import ranking, rerank
from service.tasks import (
    AnyItem,
    Classification,
    ClassifyItem,
    Embedding,
    EmbedItem,
    Label,
    Task,
    Text,
)
from tests.sentences import sentence
from tests.unit.api.fakes import FakePipeline, FakeRegistry

DOCUMENTS = ["far", "near", "nearer"]
LOGITS = {"far": -3.0, "near": 0.5, "nearer": 2.0}


class Reranker(FakePipeline):
    """Gives the probability of a pair, or its logit if the item asks for raw scores."""

    def __init__(self) -> None:
        super().__init__("reranker")

    async def answer(self, item: AnyItem, request: Request, watch: Any = None) -> Outcome[Any]:
        outcome = await super().answer(item, request, watch)
        assert isinstance(item, ClassifyItem)
        assert item.text_pair is not None
        logit = LOGITS[item.text_pair]
        score = logit if item.raw_scores else 1 / (1 + math.exp(-logit))
        return Outcome(Classification((Label("LABEL_0", score),)), outcome.cache, outcome.timings)


class Embedder(FakePipeline):
    """Gives a vector of two numbers, not of unit length."""

    def __init__(self, prompts: dict[str, str]) -> None:
        super().__init__("embedder")
        self.task = Task.EMBED
        self.family = Opened(cast(Any, None), cast(Any, None), Traits(prompts=prompts))

    async def answer(self, item: AnyItem, request: Request, watch: Any = None) -> Outcome[Any]:
        outcome = await super().answer(item, request, watch)
        assert isinstance(item, EmbedItem)
        assert isinstance(item.content, Text)
        angle = {"query": 0.0, "far": 2.0, "near": 0.5, "nearer": 0.1}[item.content.text]
        vector = 7 * np.array([math.cos(angle), math.sin(angle)], np.float32)
        return Outcome(Embedding(vector), outcome.cache, outcome.timings)


class OneModel(FakeRegistry):
    def __init__(self, pipeline: FakePipeline) -> None:
        super().__init__()
        self.pipeline = pipeline

    def find(self, *_: Any) -> Any:
        return self.pipeline


async def scores(pipeline: FakePipeline, **options: Any) -> list[Any]:
    documents = [Text(text) for text in DOCUMENTS]
    answers = await rerank(
        OneModel(pipeline), Request(), Selection(), Text("query"), documents, **options
    )
    assert len(answers.results) == len(DOCUMENTS)
    return [result.answer for result in answers.outcomes]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, [0.0474259, 0.6224593, 0.8807971]),
        (False, [0.0474259, 0.6224593, 0.8807971]),
        (True, [-3.0, 0.5, 2.0]),
    ],
)
async def test_a_pair_has_the_score_of_the_only_label(raw: bool | None, expected: Any) -> None:
    reranker = Reranker()
    assert await scores(reranker, raw_scores=raw) == pytest.approx(expected)
    assert reranker.holders == 0


async def test_an_embedder_gives_the_cosine_whatever_the_lengths() -> None:
    found = await scores(Embedder({}))
    assert found == pytest.approx([math.cos(2), math.cos(0.5), math.cos(0.1)])


@pytest.mark.parametrize(
    ("prompts", "used"),
    [
        ({}, (None, None)),
        ({"query": "q: ", "passage": "p: "}, ("query", "passage")),
        ({"query": "q: "}, ("query", None)),
        ({"document": "d: ", "passage": "p: "}, (None, "document")),
    ],
)
async def test_an_embedder_gets_the_prompts_that_it_has(
    prompts: dict[str, str], used: tuple[str | None, str | None]
) -> None:
    embedder = Embedder(prompts)
    await scores(embedder)
    names = [cast(EmbedItem, item).prompt_name for item, _ in embedder.asked]
    assert names == [used[0], *[used[1]] * len(DOCUMENTS)]


@pytest.mark.parametrize("pipeline", [Reranker(), Embedder({})], ids=["pairs", "vectors"])
async def test_a_document_that_is_invalid_does_not_lose_the_others(pipeline: FakePipeline) -> None:
    documents: Sequence[Text | ServiceError] = [Text("near"), InvalidInputError("empty")]
    answers = await rerank(OneModel(pipeline), Request(), Selection(), Text("query"), documents)
    assert isinstance(answers.results[0], Outcome)
    assert isinstance(answers.results[1], InvalidInputError)
    assert (len(answers.outcomes), answers.cache) == (1, None)


async def test_a_query_that_fails_is_named() -> None:
    emoji = FakeRegistry()
    with pytest.raises(ServiceError, check=sentence) as caught:
        await rerank(emoji, Request(), Selection(), Text("inference"), [Text("a")])
    assert caught.value.code == "inference_failed"


def test_equal_scores_stay_in_order() -> None:
    assert ranking([0.5, 0.9, 0.5, 0.9]) == [1, 3, 0, 2]
    assert ranking([0.5, 0.9, 0.5, 0.9], 3) == [1, 3, 0]
