"""The statistics of the Open Inference Protocol, compared with work whose amount is known."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from service.cache.memory import MemoryBackend
from service.cache.responses import CacheMode, ResponseCache
from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.errors import InvalidInputError
from service.families.family import Opened
from service.protocols.oip.describe import statistics_of
from service.protocols.oip.rpc.messages import pb
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.tasks import ClassifyItem, Task, Text
from service.telemetry.meters import ModelMeter
from service.types import ModelIdentity, PreparedItem
from tests.unit.fakes import CountingFamily

CURVE = BatchCurve.of({(1, 1): 1.0, (4, 1): 1.1, (1, 8): 1.0, (4, 8): 1.1})
COMPUTE = 0.25
"""Seconds of every batch."""


@dataclass
class Refusing(CountingFamily):
    """Refuses one text."""

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        if item.content == Text("bad"):
            raise InvalidInputError("bad")
        return super().preprocess(item)


async def test_every_field_is_the_work_that_was_done() -> None:  # noqa: PLR0915 - one story
    family, meter, first = Refusing(), ModelMeter("tallied", 1), asyncio.Event()

    async def run_batch(batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        first.set()
        await asyncio.sleep(COMPUTE)
        return BatchResult(family.infer({}, batch), time.perf_counter(), COMPUTE)

    threads = ThreadPoolExecutor(1)
    incoming = PreprocessQueue(threads, 1)
    batcher = Batcher(run_batch, BatchLimits(4, 16), Slots(1), meter, CURVE, incoming=incoming)
    pipeline: Pipeline[Any, Any] = Pipeline(
        Task.CLASSIFY,
        family.modalities,
        ModelIdentity("tallied", 1, "digest"),
        Opened(family, family),
        {"default": batcher},
        ResponseCache(MemoryBackend(10**6, 100, 60.0)),
        {"default": incoming},
        meter,
    )

    async def ask(text: str, mode: CacheMode = CacheMode.USE) -> None:
        await pipeline.answer(ClassifyItem(Text(text)), Request(cache=mode))

    batcher.start()
    await ask("golden")  # before the version serves: not counted
    first.clear()
    meter.start(pipeline.load)
    running = [asyncio.create_task(ask("one"))]
    await first.wait()
    running += [asyncio.create_task(ask(text)) for text in ("two", "three", "four", "two")]
    await asyncio.gather(*running)  # a batch of one, then one of three; "two" is shared
    await ask("one")  # from the cache
    await ask("one", CacheMode.BYPASS)
    with pytest.raises(InvalidInputError):
        await ask("bad")
    first.clear()
    left = asyncio.create_task(ask("five"))
    await first.wait()
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await batcher.stop(grace=1)
    threads.shutdown()

    found = statistics_of(pipeline)
    stats = found["inference_stats"]
    counts = {name: one["count"] for name, one in stats.items()}
    assert counts == {
        "success": 7,
        "fail": 2,
        "queue": 5,
        "compute_input": 5,
        "compute_infer": 5,
        "compute_output": 5,
        "cache_hit": 2,
        "cache_miss": 4,
    }
    assert stats["compute_infer"]["ns"] == 5 * COMPUTE * 1e9
    assert found["last_inference"] > 1.7e12
    assert stats["success"]["ns"] > stats["cache_hit"]["ns"] > 0
    assert stats["compute_input"]["ns"] > 0 < stats["compute_output"]["ns"]
    batches = {one["batch_size"]: one["compute_infer"] for one in found["batch_stats"]}
    assert batches[3] == {"count": 1, "ns": round(COMPUTE * 1e9)}
    assert batches[1]["count"] >= 2
    message = ParseDict(found, pb.ModelStatistics(), ignore_unknown_fields=True)
    assert MessageToDict(message)["batchStats"][0]["batchSize"] == "1"
