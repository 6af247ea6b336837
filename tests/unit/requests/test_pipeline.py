"""What waits for a model is bounded, wherever in the pipeline it waits."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.batcher import Batcher
from service.engine.dispatch import BatchResult
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.errors import OverloadedError
from service.families.family import Opened, Traits
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.tasks import Classification, ClassifyItem, Task, Text
from service.telemetry.meters import NullMeter
from service.types import Lane, ModelIdentity, PreparedItem
from tests.sentences import sentence
from tests.unit.fakes import CountingFamily

pytestmark = pytest.mark.looptime(False)  # there are real threads

QUEUE = 4


@dataclass
class GatedFamily(CountingFamily):
    """Preprocesses a text of over three characters on a thread, and only when the gate opens."""

    gate: threading.Event = field(default_factory=threading.Event)

    def offload(self, item: ClassifyItem) -> bool:
        return len(_text(item)) > 3

    def lane_of(self, item: ClassifyItem) -> str:
        return "default"

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        if self.offload(item):
            assert self.gate.wait(60)
        return super().preprocess(item)


@dataclass
class TwoLanes(GatedFamily):
    """Has a lane for texts on threads, and one for the others."""

    lanes: Sequence[Lane] = (Lane("long", (8,), ("model",)), Lane("short", (8,), ("model",)))

    def lane_of(self, item: ClassifyItem) -> str:
        return "long" if self.offload(item) else "short"

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        return PreparedItem(super().preprocess(item).tensors, self.lane_of(item))


def _text(item: ClassifyItem) -> str:
    assert isinstance(item.content, Text)
    return item.content.text


@asynccontextmanager
async def opened(family: GatedFamily) -> AsyncIterator[Pipeline[ClassifyItem, Classification]]:
    async def run_batch(batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        return BatchResult(family.infer({}, batch), 0.0, 0.01)

    lane_of = family.lane_of if len(family.lanes) > 1 else None
    limits = BatchLimits(4, QUEUE)
    with ThreadPoolExecutor(1) as threads:
        incoming = {lane.name: PreprocessQueue(threads, 1) for lane in family.lanes}
        engines = {
            lane: Batcher(run_batch, limits, Slots(1), NullMeter(), incoming=queue)
            for lane, queue in incoming.items()
        }
        for engine in engines.values():
            engine.start()
        try:
            yield Pipeline(
                Task.CLASSIFY,
                family.modalities,
                ModelIdentity("counting", 1, "digest"),
                Opened(family, family, Traits(lane_of=lane_of)),
                engines,
                ResponseCache(NullBackend(), enabled=False),
                incoming,
                NullMeter(),
            )
        finally:
            family.gate.set()
            for engine in engines.values():
                await engine.stop(grace=1)


async def ask(pipeline: Pipeline[ClassifyItem, Classification], text: str) -> str:
    outcome = await pipeline.answer(ClassifyItem(Text(text)), Request())
    return outcome.answer.labels[0].name


def pending(pipeline: Pipeline[ClassifyItem, Classification], lane: str) -> int:
    return pipeline.engines[lane].statistics().pending


async def test_who_waits_to_be_preprocessed_takes_a_place_in_the_models_queue() -> None:
    family = GatedFamily()
    async with opened(family) as pipeline:
        accepted = [asyncio.create_task(ask(pipeline, "long" + "!" * n)) for n in range(QUEUE)]
        await asyncio.sleep(0)
        assert pending(pipeline, "default") == QUEUE
        for text in ("longer", "abc"):
            with pytest.raises(OverloadedError, check=sentence):
                await ask(pipeline, text)
        with pytest.raises(OverloadedError):
            pipeline.check_room()
        family.gate.set()
        assert await asyncio.gather(*accepted) == ["4", "5", "6", "7"]
        assert pending(pipeline, "default") == 0
        assert await ask(pipeline, "longer") == "6"


async def test_a_flood_in_one_lane_leaves_the_other_its_places() -> None:
    async with opened(TwoLanes()) as pipeline:
        accepted = [asyncio.create_task(ask(pipeline, "long" + "!" * n)) for n in range(QUEUE)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await ask(pipeline, "longer")
        assert await ask(pipeline, "abc") == "3"
        for task in accepted:
            task.cancel()
        await asyncio.wait(accepted)
        assert pending(pipeline, "long") == 0


async def test_a_refusal_says_how_long_what_waits_will_take() -> None:
    family = GatedFamily()
    family.gate.set()
    async with opened(family) as pipeline:
        threading.Timer(0.2, family.gate.set).start()
        family.gate.clear()
        await ask(pipeline, "long")  # takes 0.2 s, as far as anybody knows for ever
        family.gate.clear()
        accepted = [asyncio.create_task(ask(pipeline, "long" + "!" * n)) for n in range(QUEUE)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            await ask(pipeline, "longer")
        assert refused.value.retry_after == pytest.approx(QUEUE * 0.2, rel=0.2)
        family.gate.set()
        await asyncio.gather(*accepted)
