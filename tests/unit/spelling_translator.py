"""A translator that writes a letter a step, in flight, on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.cache.memory import CacheBackend, NullBackend
from service.cache.responses import ResponseCache
from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.inflight.engine import InFlightEngine, InstanceOptions
from service.engine.inflight.step_loop import StepLoop
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.errors import InvalidInputError
from service.families.family import Opened, Traits
from service.families.translation.texts import divided
from service.requests.pipeline import Pipeline
from service.tasks import Task, TranslateItem, Translation
from service.telemetry.meters import NullMeter
from service.transforms.language.segmentation import Document, Splitting
from service.types import Lane, ModelIdentity, PreparedItem, Sessions, Tensors

STEP = 0.1
MOST_CHARACTERS = 20
UNREADABLE, POISON = "unreadable", "poison"


@dataclass
class SpellingRows:
    """Every step writes one more letter of each text."""

    works: dict[Hashable, PreparedItem] = field(default_factory=dict)
    written: dict[Hashable, int] = field(default_factory=dict)
    log: list[list[str]] = field(default_factory=list)
    """The texts of each step."""

    @property
    def count(self) -> int:
        return len(self.works)

    @property
    def in_use(self) -> int:
        return len(self.works)

    def prefill(self, sessions: Sessions, items: Mapping[Hashable, PreparedItem]) -> None:
        self.works.update(items)
        self.written.update(dict.fromkeys(items, 0))

    def step(self, sessions: Sessions) -> Mapping[Hashable, Tensors]:
        self.log.append([text_of(work) for work in self.works.values()])
        done = {}
        for key, work in list(self.works.items()):
            if text_of(work) == POISON:
                raise RuntimeError("poisoned")
            self.written[key] += 1
            if self.written[key] == len(text_of(work)):
                done[key] = work.tensors
                self.drop(frozenset({key}))
        return done

    def drop(self, keys: frozenset[Hashable]) -> None:
        for key in keys:
            del self.works[key], self.written[key]

    def reset(self) -> None:
        self.works.clear()
        self.written.clear()

    def progress(self, keys: frozenset[Hashable]) -> Mapping[Hashable, Tensors]:
        return {
            key: {"text": np.array(text_of(self.works[key])[: self.written[key]])}
            for key in keys
            if key in self.works
        }


TEXT = frozenset({"text"})


@dataclass
class SpellingFamily:
    """Translates by writing in capitals."""

    lanes: Sequence[Lane] = (Lane("default", (1, 8), ("model",)),)
    rows: list[SpellingRows] = field(default_factory=list)

    def open_rows(self) -> SpellingRows:
        self.rows.append(SpellingRows())
        return self.rows[-1]

    def rows_for(self, work: PreparedItem) -> int:
        return 1

    def offload(self, item: TranslateItem) -> bool:
        return len(item.text) > 1000

    def split(self, item: TranslateItem, in_sentences: bool) -> Document | None:
        how = Splitting("en", "en", in_sentences)
        return divided(item.text, how, lambda text: len(text) <= MOST_CHARACTERS)

    def preprocess(self, item: TranslateItem) -> PreparedItem:
        if item.text == UNREADABLE:
            raise InvalidInputError("the text has nothing that this model reads")
        return PreparedItem({"text": np.array(item.text)}, length=len(item.text))

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        return [work.tensors for work in batch]

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        return Translation(str(result["text"]).upper(), "en", "en", False)

    def probe(self, lane: str, length: int) -> PreparedItem:
        return PreparedItem({"text": np.array("x" * length)}, lane, length)

    @property
    def log(self) -> list[list[str]]:
        return [texts for rows in self.rows for texts in rows.log]


def opened(family: SpellingFamily) -> Opened[TranslateItem, Translation]:
    return Opened(family, family, Traits(split=family.split, in_flight=family))


def text_of(work: PreparedItem) -> str:
    return str(work.tensors["text"])


async def _run_loop(steps: StepLoop) -> None:
    while steps.prepare():
        await asyncio.sleep(STEP)
        steps.step()


def _use(act: Any, exclusive: bool) -> Any:
    return act({})


@asynccontextmanager
async def spelling_in_batches() -> AsyncIterator[Pipeline[TranslateItem, Translation]]:
    """A pipeline that takes a step a batch, of 4 at most."""
    family = SpellingFamily()

    async def run_batch(batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        await asyncio.sleep(STEP)
        return BatchResult(family.infer({}, batch), 0.0, STEP)

    curve = BatchCurve.of({(1, 1): STEP, (4, 1): STEP})  # a batch costs what one costs
    meter, limits = NullMeter(), BatchLimits(4, 16)
    cache = ResponseCache(NullBackend(), enabled=False)
    with ThreadPoolExecutor(1) as threads:
        identity = ModelIdentity("spelling", 1, "digest")
        incoming = PreprocessQueue(threads, 1)
        batcher = Batcher(run_batch, limits, Slots(1), meter, curve, incoming=incoming)
        batcher.start()
        engines, queues = {"default": batcher}, {"default": incoming}
        yield Pipeline(
            Task.TRANSLATE, TEXT, identity, opened(family), engines, cache, queues, meter
        )
        await batcher.stop(grace=0)


@asynccontextmanager
async def spelling(
    max_batch_size: int = 8, max_queue_size: int = 16, backend: CacheBackend | None = None
) -> AsyncIterator[tuple[Pipeline[TranslateItem, Translation], InFlightEngine, SpellingFamily]]:
    """A pipeline whose window is 4, unless told otherwise."""
    family = SpellingFamily()
    meter = NullMeter()
    cache = ResponseCache(backend or NullBackend(), enabled=backend is not None)
    with ThreadPoolExecutor(1) as threads:
        identity = ModelIdentity("spelling", 1, "digest")
        incoming = PreprocessQueue(threads, 1)
        engine = InFlightEngine(
            family,
            InstanceOptions(1, max_batch_size, Slots(1), _use, _run_loop),
            BatchLimits(max_batch_size, max_queue_size),
            meter,
            clock=asyncio.get_running_loop().time,
            incoming=incoming,
        )
        engines, queues = {"default": engine}, {"default": incoming}
        pipeline = Pipeline(
            Task.TRANSLATE, TEXT, identity, opened(family), engines, cache, queues, meter
        )
        engine.start()
        yield pipeline, engine, family
        await engine.stop(grace=0)
