"""Real fakes: a family, a repository and a loader that need no files and no onnxruntime."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.batcher import Batcher
from service.engine.dispatch import BatchResult
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.errors import InvalidInputError, ModelLoadError, ModelNotFoundError
from service.families.family import Opened
from service.registry.loader import Loaded
from service.registry.progress import EnterPhase, LoadPhase
from service.repository.folders import Contents
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles
from service.requests.pipeline import Pipeline
from service.tasks import Ability, Classification, ClassifyItem, Label, Task, Text
from service.telemetry.meters import ModelMeter
from service.types import Lane, PreparedItem, Sessions, Tensors


@dataclass
class CountingFamily:
    """Classifies a text by its length; the empty text is invalid."""

    modalities: frozenset[str] = frozenset({"text"})
    lanes: Sequence[Lane] = (Lane("default", (1, 8), ("model",)),)
    offloads: bool = False

    def offload(self, item: ClassifyItem) -> bool:
        return self.offloads

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        assert isinstance(item.content, Text)
        if not item.content.text:
            raise InvalidInputError("text is empty")
        return PreparedItem({"length": np.array(len(item.content.text))})

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        return [work.tensors for work in batch]

    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        return Classification((Label(str(int(result["length"])), 1.0),))

    def probe(self, lane: str, length: int) -> PreparedItem:
        return PreparedItem({"length": np.array(length)}, lane, length)


def files(
    model: str, version: int = 1, task: Task = Task.CLASSIFY, **parameters: Any
) -> VersionFiles:
    manifest = Manifest(task, "counting", {"fp32": {"model": "m.onnx"}}, parameters=parameters)
    return VersionFiles(
        model, version, Path(model), manifest, "fp32", {}, f"digest-{model}-{version}", 0, ()
    )


@dataclass
class ShelfRepository:
    """Versions in memory; a version named in `broken` cannot be opened."""

    shelf: dict[str, list[int]]
    broken: set[tuple[str, int]] = field(default_factory=set)
    tasks: dict[str, Task] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    is_gone: bool = False
    readings: int = 0

    def contents(self) -> Contents:
        self.readings += 1
        if self.is_gone:
            raise ModelLoadError("the repository is not a folder that can be read")
        return Contents(tuple(sorted(self.shelf)), self.unusable)

    def versions(self, model: str) -> list[int]:
        if model in self.unusable:
            raise ModelLoadError(self.unusable[model])
        if model not in self.shelf:
            raise ModelNotFoundError(f"there is no {model}")
        return sorted(self.shelf[model])

    def describe(self, model: str, version: int) -> Manifest:
        if (model, version) in self.broken:
            raise ModelLoadError("model.toml is broken")
        return Manifest(self.tasks.get(model, Task.CLASSIFY), model, {"fp32": {}})

    def open(
        self, model: str, version: int | None, precision: str | None, device_kind: str
    ) -> VersionFiles:
        if model not in self.shelf or (version is not None and version not in self.shelf[model]):
            raise ModelNotFoundError(f"there is no {model} {version or ''}")
        chosen = version or max(self.shelf[model])
        if (model, chosen) in self.broken:
            raise ModelLoadError("model.toml is broken")
        return files(model, chosen, self.tasks.get(model, Task.CLASSIFY))


@dataclass
class ShelfLoader:
    """Loads in one second of the clock; a version in `failing` fails its goldens."""

    failing: set[tuple[str, int]] = field(default_factory=set)
    crashing: set[tuple[str, int]] = field(default_factory=set)
    families: dict[str, Any] = field(default_factory=dict)
    compute_seconds: float = 0.1
    closed: list[tuple[str, int]] = field(default_factory=list)

    def abilities(self, manifest: Manifest) -> frozenset[Ability]:
        family = self.families.get(manifest.family, CountingFamily())
        return frozenset((manifest.task, modality) for modality in family.modalities)

    def memory_of(self, files: VersionFiles) -> int | None:
        return None

    async def load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        enter(LoadPhase.WARMING_UP)
        await asyncio.sleep(1.0)
        if (files.model, files.version) in self.failing:
            raise ModelLoadError("goldens deviate by 0.5")
        if (files.model, files.version) in self.crashing:
            raise TypeError("no such argument")
        family = self.families.get(files.model, CountingFamily())

        async def run_batch(batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
            started = time.perf_counter()
            await asyncio.sleep(self.compute_seconds)
            return BatchResult(family.infer({}, batch), started, self.compute_seconds)

        meter = ModelMeter(files.model, files.version)
        incoming = PreprocessQueue(ThreadPoolExecutor(1), 1)
        batcher = Batcher(run_batch, BatchLimits(4, 16), Slots(1), meter, incoming=incoming)
        pipeline = Pipeline(
            files.manifest.task,
            family.modalities,
            files.identity,
            Opened(family, family),
            {"default": batcher},
            ResponseCache(NullBackend(), enabled=False),
            {"default": incoming},
            meter,
        )
        meter.start(pipeline.load)
        batcher.start()
        return ShelfLoaded(files, pipeline, None, "cpu", None, 1.0, self.closed)  # type: ignore[arg-type]


@dataclass(eq=False, slots=True)
class ShelfLoaded(Loaded):
    closings: list[tuple[str, int]]

    async def close(self, grace: float) -> int:
        self.closings.append((self.files.model, self.files.version))
        return await Loaded.close(self, grace)
