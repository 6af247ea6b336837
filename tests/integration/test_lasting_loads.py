"""A load that never ends is stopped at its time limit, or by an unload."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.errors import ModelLoadError
from service.registry.loader import Loader
from service.registry.preparation import BatchingOverrides
from service.repository.repository import ModelRepository, VersionFiles
from service.runtime.providers import Device
from tests.lasting import add_lasting, looping
from tests.sentences import sentence
from tests.words import add_words

pytestmark = pytest.mark.looptime(False)  # real sessions on real threads


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    add_lasting(tmp_path, "lasting", looping(always=True))
    add_words(tmp_path)
    return ModelRepository(tmp_path)


def opened(repository: ModelRepository, model: str) -> VersionFiles:
    return repository.open(model, None, None, "cpu")


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - of another thread's doing there is no event
        await asyncio.sleep(0.01)


async def test_a_load_that_lasts_is_stopped_and_the_next_one_has_the_device(
    repository: ModelRepository,
) -> None:
    runtime = DeviceRuntime(Device("cpu"), 1)
    cache = ResponseCache(NullBackend())
    try:
        loader = Loader(EngineFactory(runtime), cache, warm_up_seconds=0.05, most_seconds=1.0)
        with pytest.raises(ModelLoadError, check=sentence):
            await loader.load(opened(repository, "lasting"))
        patient = Loader(EngineFactory(runtime), cache, warm_up_seconds=0.05)
        loaded = await patient.load(opened(repository, "words"))
        assert await loaded.close(grace=0) == 0
        await until(lambda: runtime.slots.free == runtime.slots.count)
    finally:
        runtime.close()


async def test_a_cancelled_load_gives_the_device_back(repository: ModelRepository) -> None:
    runtime = DeviceRuntime(Device("cpu"), 1)
    try:
        timing_comes_first = BatchingOverrides(max_batch_size=1)
        loader = Loader(EngineFactory(runtime), ResponseCache(NullBackend()), timing_comes_first)
        await runtime.dispatch()
        load = asyncio.create_task(loader.load(opened(repository, "lasting")))
        await until(lambda: runtime.slots.free < runtime.slots.count or load.done())
        load.cancel()
        await asyncio.wait([load])
        assert load.cancelled()
        await until(lambda: runtime.slots.free == runtime.slots.count)
    finally:
        runtime.close()
