"""A directory, served: through the repository, the loader and the pipeline, as in the process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.cache.memory import NullBackend
from service.cache.responses import CacheMode, ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.registry.choice import Chooser
from service.registry.loader import Loaded, Loader
from service.repository.repository import ModelRepository
from service.requests.request import Request
from service.runtime.providers import Device

_CALL = Request(cache=CacheMode.BYPASS)


@asynccontextmanager
async def serving(
    folder: Path, precision: str | None = None, chooser: Chooser | None = None
) -> AsyncIterator[Loaded]:
    """Load the model in a folder, which lies in a repository of its own."""
    runtime = DeviceRuntime(Device("cpu"), 1)
    loader = Loader(
        EngineFactory(runtime),
        ResponseCache(NullBackend()),
        warm_up_seconds=0.02,
        chooser=chooser or Chooser(),
    )
    try:
        loaded = await loader.load(
            ModelRepository(folder.parent).open(folder.name, None, precision)
        )
        try:
            yield loaded
        finally:
            await loaded.close(grace=0)
    finally:
        runtime.close()


async def answers(
    folder: Path, items: Sequence[Any], chooser: Chooser | None = None
) -> tuple[list[Any], list[Any]]:
    """Return the answers to the items asked one by one, and asked all at once."""
    async with serving(folder, chooser=chooser) as loaded:
        ask = loaded.pipeline.answer
        alone = [(await ask(item, _CALL)).answer for item in items]
        together = await asyncio.gather(*(ask(item, _CALL) for item in items))
        return alone, [outcome.answer for outcome in together]
