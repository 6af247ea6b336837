"""A model as it is loaded answers a lone short item without a batch."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from service.cache.memory import NullBackend
from service.cache.responses import CacheMode, ResponseCache
from service.engine.batcher import Batcher
from service.engine.device import DeviceRuntime
from service.engine.dispatch import BatchResult
from service.engine.factory import EngineFactory
from service.registry.loader import Loader
from service.repository.repository import ModelRepository
from service.requests.request import Request
from service.runtime.providers import Device
from service.tasks import ClassifyItem, Text
from service.types import PreparedItem

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads

STARTERS = Path(__file__).parents[2] / "models" / "repository"


async def no_batch(batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
    raise AssertionError("a batch was formed")


async def test_a_lone_headline_is_answered_without_a_batch() -> None:
    runtime = DeviceRuntime(Device("cpu"), 2)
    try:
        files = ModelRepository(STARTERS).open("news-topics", None, None, "cpu")
        loader = Loader(EngineFactory(runtime), ResponseCache(NullBackend()), warm_up_seconds=0.05)
        loaded = await loader.load(files)
        (batcher,) = loaded.pipeline.engines.values()
        assert isinstance(batcher, Batcher)
        batcher._run_batch = no_batch
        item = ClassifyItem(Text("Stocks rise"), top_k=1)
        outcome = await loaded.pipeline.answer(item, Request(cache=CacheMode.BYPASS))
        assert outcome.answer.labels[0].name == "business"
        await loaded.close(grace=0)
    finally:
        runtime.close()
