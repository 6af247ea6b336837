"""Starter models as the service runs them: repository, loader, golden check, batcher, family."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from service.cache.base import NullBackend
from service.cache.responses import CacheMode, ResponseCache
from service.loader import DeviceRuntime, Loaded, Loader
from service.pipeline import CallOptions
from service.repository.manifest import Precision
from service.repository.repository import ModelRepository
from service.runtime.devices import Device, available_cores
from service.tasks import Answer, AnyItem

IN_FLIGHT = 64
"""Items asked at the same time: batches form as they do under load."""

_UNCACHED = CallOptions(cache=CacheMode.BYPASS)


@dataclass(frozen=True, slots=True)
class Served:
    """One loaded version in one precision."""

    loaded: Loaded

    async def answers(self, items: Sequence[AnyItem], title: str) -> list[Answer]:
        """Return the answers in the order of the items, with a progress bar.

        Raises:
            ServiceError: as the service would, if an item cannot be answered.
        """
        room = asyncio.Semaphore(IN_FLIGHT)
        with tqdm(total=len(items), desc=title, leave=False) as bar:

            async def answer(item: AnyItem) -> Answer:
                async with room:
                    outcome = await self.loaded.pipeline.answer(item, _UNCACHED)
                bar.update()
                answered: Answer = outcome.answer
                return answered

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(item)) for item in items]
        return [task.result() for task in tasks]


def precisions_of(repository: Path, model: str) -> list[Precision]:
    """Return the precisions that the newest version of a model comes in."""
    return list(ModelRepository(repository).open(model).manifest.graphs)


@asynccontextmanager
async def serve(repository: Path, model: str, precision: Precision) -> AsyncIterator[Served]:
    """Load the newest version of a model on the CPU, goldens checked; unload it afterwards.

    Raises:
        ModelLoadError: it is broken, or its answers are too far from its goldens.
    """
    files = ModelRepository(repository).open(model, precision=precision)
    runtime = DeviceRuntime(Device.parse("cpu"), available_cores())
    try:
        loaded = await Loader(
            runtime, ResponseCache(NullBackend(), enabled=False), warm_up_seconds=0.2
        ).load(files)
        try:
            yield Served(loaded)
        finally:
            await loaded.close(grace=5)
    finally:
        runtime.close()
