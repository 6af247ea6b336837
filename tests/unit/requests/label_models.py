"""Models that score labels by hand-made vectors and logits."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from service.cache.memory import MemoryBackend
from service.cache.responses import CacheOutcome, ResponseCache
from service.errors import (
    InferenceError,
    ModelNotFoundError,
    OverloadedError,
    ServiceError,
)
from service.families.family import CosineScores, EntailmentScores, Opened, Traits
from service.requests.answer import Answers, Models
from service.requests.pipeline import Outcome
from service.requests.request import Request, Selection
from service.requests.zero_shot import GivenLabels, classify_by_labels
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

PLANE = {
    "east": [1.0, 0.0],
    "north": [0.0, 2.0],
    "north-east": [3.0, 3.0],
    "nowhere": [0.0, 0.0],
    "a photo of east": [1.0, 0.1],
    "a photo of north": [0.1, 1.0],
}


LOGITS: Mapping[tuple[str, str], tuple[float, float, float]] = {
    # Contradiction, neutral, entailment.
    ("rain", "It is wet."): (-1.0, 0.5, 2.0),
    ("rain", "It is dry."): (3.0, 0.0, -2.0),
    ("rain", "It is dark."): (0.0, 1.0, 0.5),
}


NLI = EntailmentScores("entailment", "contradiction", "It is {}.")


@dataclass
class FakePipeline:
    """Embeds by a table, or tells of pairs by another; remembers and counts."""

    how: CosineScores | EntailmentScores
    window: int = 2
    full: int = 0
    """How many of the items after the first find the queue full."""
    asked: list[AnyItem] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    known: set[bytes] = field(default_factory=set)
    model: ModelIdentity = field(default_factory=lambda: ModelIdentity("fake", 1, "digest"))
    task: Task = Task.EMBED
    cache: ResponseCache = field(
        default_factory=lambda: ResponseCache(MemoryBackend(10**7, 1000, 60.0))
    )
    looked_up: int = 0

    def __post_init__(self) -> None:
        self.family = Opened(cast(Any, None), cast(Any, None), Traits(label_scores=self.how))

    def held(self) -> Any:
        return nullcontext()

    async def answer(self, item: AnyItem, request: Request) -> Outcome[Any]:
        self.looked_up += 1
        how = CacheOutcome.HIT if item.fingerprint() in self.known else CacheOutcome.MISS
        if how is CacheOutcome.MISS:
            if self.full and self.asked:
                self.full -= 1
                raise OverloadedError("the queue is full", retry_after=5.0)
            self.asked.append(item)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            await asyncio.sleep(0.01)
            self.running -= 1
        found = _answer(item)
        self.known.add(item.fingerprint())
        return Outcome(found, how, Timings())


def _answer(item: AnyItem) -> Any:
    match item:
        case EmbedItem(Text(text)) if text.startswith("broken"):
            raise InferenceError("the model failed")
        case EmbedItem(Text(text)):
            return Embedding(np.float32(PLANE[text]))
        case EmbedItem(Image(data)):
            return Embedding(np.float32(PLANE[data.decode()]))
        case ClassifyItem(Text(text), None, str(pair), True):
            names = ("contradiction", "neutral", "entailment")
            found = list(map(Label, names, LOGITS[text, pair]))
            return Classification(tuple(sorted(found, key=lambda label: -label.score)))
        case _:
            raise AssertionError(item)


@dataclass
class FakeModels:
    pipeline: FakePipeline

    def find(
        self, task: object, modality: str, model: str | None, version: int | None, key: str = ""
    ) -> Any:
        assert task is ComposedTask.ZERO_SHOT
        if model == "missing":
            raise ModelNotFoundError("there is no model 'missing'")
        return self.pipeline


async def asked(
    pipeline: FakePipeline,
    labels: Sequence[str],
    *items: ClassifyItem | ServiceError,
    request: Request | None = None,
    **more: Any,
) -> Answers:
    given = GivenLabels(tuple(labels), **more)
    models = cast(Models, FakeModels(pipeline))
    return await classify_by_labels(models, request or Request(), Selection(), items, given)


async def scores(
    pipeline: FakePipeline, labels: Sequence[str], item: ClassifyItem, **more: Any
) -> dict[str, float]:
    (result,) = (await asked(pipeline, labels, item, **more)).outcomes
    return {label.name: label.score for label in result.answer.labels}


def softmax(*logits: float) -> list[float]:
    total = sum(map(math.exp, logits))
    return [math.exp(logit) / total for logit in logits]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
