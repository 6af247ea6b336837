"""Texts and images compared with one: by an embedder, or by a classifier of pairs of texts."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from service.cache.responses import CacheOutcome
from service.errors import InvalidInputError, ModelNotFoundError
from service.families.family import Opened, Traits
from service.requests.answer import Models
from service.requests.pipeline import Outcome
from service.requests.request import Request, Selection
from service.requests.similarity import similarity
from service.tasks import (
    AnyItem,
    Classification,
    ClassifyItem,
    ComposedTask,
    Embedding,
    EmbedItem,
    Image,
    Label,
    Task,
    Text,
)
from service.telemetry.record import Timings
from service.types import ModelIdentity
from tests.sentences import sentence

VECTORS = {"east": [2.0, 0.0], "north": [0.0, 1.0], "north-east": [3.0, 3.0], "nowhere": [0.0, 0.0]}


@dataclass
class Fake:
    """An embedder, or a reranker that scores a pair by the length of its second text."""

    task: Task
    model: ModelIdentity = field(default_factory=lambda: ModelIdentity("fake", 1, "digest"))
    family: Any = field(default_factory=lambda: Opened(cast(Any, 0), cast(Any, 0), Traits()))
    abilities: frozenset[Any] = frozenset()
    asked: list[AnyItem] = field(default_factory=list)

    def held(self) -> Any:
        return nullcontext()

    async def answer(self, item: AnyItem, request: Request) -> Outcome[Any]:
        self.asked.append(item)
        found: Any
        match item:
            case EmbedItem(Text(text)):
                found = Embedding(np.float32(VECTORS[text]))
            case EmbedItem(Image(data)):
                found = Embedding(np.float32(VECTORS[data.decode()]))
            case ClassifyItem(_, _, str(pair)):
                found = Classification((Label("relevance", len(pair) / 10),))
        return Outcome(found, CacheOutcome.MISS, Timings())


@dataclass
class FakeModels:
    embedder: Fake = field(default_factory=lambda: Fake(Task.EMBED))
    reranker: Fake = field(default_factory=lambda: Fake(Task.CLASSIFY))

    def find(
        self, task: object, modality: str, model: str | None, version: int | None, key: str = ""
    ) -> Any:
        if model == "missing":
            raise ModelNotFoundError("there is no model 'missing'")
        if task is Task.EMBED and model == "reranker":
            raise ModelNotFoundError(f"model 'reranker' cannot embed {modality}s")
        assert task in (Task.EMBED, ComposedTask.RERANK)
        return self.reranker if model == "reranker" else self.embedder


async def compared(source: Any, *others: Any, model: str | None = None) -> list[Any]:
    models = cast(Models, FakeModels())
    answers = await similarity(models, Request(), Selection(model), source, others)
    return [getattr(result, "answer", result) for result in answers.results]


@pytest.mark.parametrize("model", [None, "embedder"])
async def test_an_embedder_compares_texts_and_images_by_cosines(model: str | None) -> None:
    others = [Text("east"), Text("north-east"), Image(b"north"), Text("nowhere")]
    found = await compared(Text("east"), *others, model=model)
    assert found == pytest.approx([1, 0.5**0.5, 0, 0])
    assert await compared(Image(b"north"), *others, model=model) == pytest.approx(
        [0, 0.5**0.5, 1, 0]
    )


async def test_a_classifier_of_pairs_that_is_named_scores_texts() -> None:
    found = await compared(Text("a"), Text("four"), Text("sixsix"), model="reranker")
    assert found == pytest.approx([0.4, 0.6])


async def test_a_classifier_of_pairs_compares_no_images() -> None:
    with pytest.raises(ModelNotFoundError, check=sentence):
        await compared(Text("east"), Image(b"north"), model="reranker")


async def test_what_could_not_be_read_does_not_fail_the_others() -> None:
    broken = InvalidInputError("the text is empty")
    for model in (None, "reranker"):
        first, second = await compared(Text("east"), broken, Text("east"), model=model)
        assert first is broken
        assert second in (1.0, 0.4)


async def test_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelNotFoundError):
        await compared(Text("east"), Text("east"), model="missing")
