"""Models as the service runs them: repository, loader, golden check, batcher, family."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from models.evaluate.errors import EvaluationError
from service.cache.memory import NullBackend
from service.cache.responses import CacheMode, ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.errors import ServiceError
from service.registry.loader import Loaded, Loader
from service.repository.manifest import Precision
from service.repository.onnx_file.graph_validation import external_files
from service.repository.repository import ModelRepository, VersionFiles
from service.requests.answer import Ask, ask_pipeline
from service.requests.request import Request
from service.requests.zero_shot import GivenLabels, asking
from service.runtime.providers import Device
from service.runtime.threads import available_cores
from service.tasks import Answer, AnyItem

IN_FLIGHT = 64
"""Items asked at the same time: batches form as they do under load."""

_UNCACHED = Request(cache=CacheMode.BYPASS)


@dataclass(frozen=True, slots=True)
class Served:
    """One loaded version in one precision."""

    loaded: Loaded
    ask: Ask = ask_pipeline
    """Asks the pipeline for the answer to one item."""

    async def by_labels(self, labels: GivenLabels, modality: str) -> "Served":
        """Return it as it chooses among given labels (zero-shot).

        Raises:
            EvaluationError: it cannot, or a label cannot be answered.
        """
        try:
            ask = await asking(self.loaded.pipeline, _UNCACHED, labels, modality)
        except ServiceError as error:
            raise EvaluationError(f"the labels: {error}") from error
        return replace(self, ask=ask)

    async def seconds_alone(self, items: Sequence[AnyItem]) -> float:
        """Return the median time of one item, each asked when the one before is answered."""
        times = []
        for item in items:
            started = time.perf_counter()
            await self.ask(self.loaded.pipeline, item, _UNCACHED)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    async def answers(self, items: Sequence[AnyItem], title: str) -> list[Answer]:
        """Return the answers in the order of the items, with a progress bar.

        Raises:
            EvaluationError: an item cannot be answered; the message says which and why.
        """
        room = asyncio.Semaphore(IN_FLIGHT)
        failed: list[tuple[int, ServiceError]] = []
        with tqdm(total=len(items), desc=title, leave=False) as bar:

            async def answer(number: int, item: AnyItem) -> Answer:
                async with room:
                    try:
                        outcome = await self.ask(self.loaded.pipeline, item, _UNCACHED)
                    except ServiceError as error:
                        failed.append((number, error))
                        raise
                bar.update()
                answered: Answer = outcome.answer
                return answered

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(answer(*one)) for one in enumerate(items, 1)]
            except* ServiceError:
                bar.close()
        if failed:
            number, error = failed[0]
            raise EvaluationError(f"item {number} of the {title}: {error}") from error
        return [task.result() for task in tasks]


def graph_bytes(files: VersionFiles) -> int:
    """Return the bytes of a version's graphs in its precision, including external data."""
    paths = set(files.graphs.values())
    for path in files.graphs.values():
        paths.update(external_files(path, files.folder, files.model))
    return sum(path.stat().st_size for path in paths)


def precisions_of(repository: Path, model: str, version: int | None = None) -> list[Precision]:
    """Return the precisions that a version of a model comes in; None is the newest."""
    return list(ModelRepository(repository).open(model, version).manifest.graphs)


@asynccontextmanager
async def serve(
    repository: Path, model: str, precision: Precision, version: int | None = None
) -> AsyncIterator[Served]:
    """Load a version of a model on the CPU, goldens checked; unload it afterwards.

    Args:
        repository: the folder of its folder.
        model: its name.
        precision: one of those it has.
        version: None is the newest.

    Raises:
        ModelLoadError: it is broken, or its answers are too far from its goldens.
    """
    files = ModelRepository(repository).open(model, version, precision)
    runtime = DeviceRuntime(Device.parse("cpu"), available_cores())
    try:
        loaded = await Loader(
            EngineFactory(runtime), ResponseCache(NullBackend(), enabled=False), warm_up_seconds=0.2
        ).load(files)
        try:
            yield Served(loaded)
        finally:
            await loaded.close(grace=5)
    finally:
        runtime.close()
