"""From a version's files to a pipeline that answers: open, prepare, assemble, check."""

import asyncio
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from service.cache.responses import ResponseCache
from service.engine.curve import BatchCurve
from service.engine.factory import EngineFactory
from service.engine.policy import BatchLimits
from service.errors import ModelLoadError, ServiceError
from service.memory import return_free_memory
from service.registry.batching import BatchingOverrides, is_isolated, reads_padding
from service.registry.checks import try_head
from service.registry.opening import OpenVersion, abilities_of, open_version, read_graphs
from service.registry.parity import Parity, compare
from service.registry.progress import EnterPhase, LoadPhase, ignore_phase
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles
from service.requests.pipeline import Pipeline
from service.runtime.instances import Instances
from service.runtime.providers import Device
from service.runtime.stopping import apart
from service.tasks import Ability
from service.telemetry.meters import ModelMeter
from service.types import ModelIdentity


@dataclass(eq=False, slots=True)
class Loaded:
    """A version that answers, and what its load found out."""

    files: VersionFiles
    pipeline: Pipeline[Any, Any]
    instances: Instances
    device: Device
    parity: Parity | None
    """How it compares with its goldens; None for a version without goldens."""
    seconds: float
    """Duration of the load."""

    def start(self) -> None:
        """Start the engines."""
        for engine in self.pipeline.engines.values():
            engine.start()

    async def close(self, grace: float) -> int:
        """Give accepted items `grace` seconds, then stop. The sessions are freed with this object.

        Returns:
            The number of runs that were stopped but have not ended; each holds its slot until it
            ends.
        """
        engines = self.pipeline.engines.values()
        return sum(await asyncio.gather(*(engine.stop(grace) for engine in engines)))


class _Prepared(NamedTuple):
    limits: BatchLimits
    curves: Mapping[str, BatchCurve]
    """By lane."""
    variant: Sequence[str]
    """Graphs whose answers depend on the other items of a batch."""


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions onto one device."""

    factory: EngineFactory
    cache: ResponseCache
    overrides: BatchingOverrides = field(default_factory=BatchingOverrides)
    warm_up_seconds: float = 1.0
    """Time to measure batches, per lane."""
    most_seconds: float = 600.0
    """Longest duration of a load."""

    def abilities(self, manifest: Manifest) -> frozenset[Ability]:
        """Return what a model can do, by its manifest; nothing for an unknown family."""
        return abilities_of(manifest)

    async def load(self, files: VersionFiles, enter: EnterPhase = ignore_phase) -> Loaded:
        """Load a version and check its goldens; calls `enter` as each phase begins.

        Cancelling the call stops the load.

        Raises:
            ModelLoadError: a step failed, an answer is further from its golden than the
                tolerance, or the load took too long.
        """
        try:
            async with asyncio.timeout(self.most_seconds):
                return await self._load(files, enter)
        except TimeoutError:
            raise ModelLoadError(
                f"{files.model}/{files.version}: the load was stopped after "
                f"{self.most_seconds:g} s; models.load_timeout_seconds allows no more"
            ) from None

    async def _load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        started = time.perf_counter()
        enter(LoadPhase.OPENING)
        graphs = await apart(read_graphs, files)
        limits = self._limits(files, graphs.batch_wide, "quantises over whole batches")
        runtime = self.factory.runtime
        version = await open_version(files, graphs, runtime.device, runtime.threads)
        enter(LoadPhase.WARMING_UP)
        prepared = await self._prepare(files, version, limits)
        meter = ModelMeter(files.model, files.version)
        pipeline = self._assemble(files, version, prepared, meter)
        instances = version.runnable.instances
        loaded = Loaded(files, pipeline, instances, runtime.device, None, 0.0)
        loaded.start()
        try:
            enter(LoadPhase.CHECKING_GOLDENS)
            together = None
            if prepared.limits.max_batch_size > 1:
                together = partial(self.factory.run_batch, version.runnable)
            variant = [*graphs.batch_wide, *prepared.variant]
            loaded.parity = await compare(pipeline, files, str(runtime.device), variant, together)
            _start_counting(meter, pipeline)
        except BaseException:
            await loaded.close(grace=0)
            raise
        loaded.seconds = time.perf_counter() - started
        return loaded

    async def _prepare(
        self, files: VersionFiles, version: OpenVersion, limits: BatchLimits
    ) -> _Prepared:
        """Find out whether batches change answers and how long they take. Raises ModelLoadError."""
        padded = list[str]()
        runnable = version.runnable
        try:
            if limits.max_batch_size > 1:
                padded = await apart(reads_padding, files, runnable.model, runnable.instances)
                limits = self._limits(files, padded, "reads the padding of shorter texts")
            await apart(try_head, files, version.family, runnable.instances)
            curves = await self.factory.warm_up(runnable, limits, self.warm_up_seconds)
            await apart(return_free_memory)
        except ModelLoadError:
            raise
        except ServiceError as error:
            raise ModelLoadError(f"{files.model}/{files.version} warm-up: {error}") from error
        except Exception as error:  # a graph may return anything
            raise ModelLoadError(
                f"{files.model}/{files.version} warm-up: the graph does not fit the family "
                f"{files.manifest.family} ({type(error).__name__}: {error})"
            ) from error
        return _Prepared(limits, curves, padded)

    def _assemble(
        self, files: VersionFiles, version: OpenVersion, prepared: _Prepared, meter: ModelMeter
    ) -> Pipeline[Any, Any]:
        made = self.factory.make(version.runnable, prepared.curves, prepared.limits, meter)
        return Pipeline(
            files.manifest.task,
            version.modalities,
            ModelIdentity(files.model, files.version, files.digest),
            version.family,
            made.engines,
            self.cache,
            made.incoming,
            meter,
            abilities_of(files.manifest),
        )

    def _limits(self, files: VersionFiles, variant: Sequence[str], reason: str) -> BatchLimits:
        return self.overrides.limits(files.manifest, is_isolated(files, variant, reason))


def _start_counting(meter: ModelMeter, pipeline: Pipeline[Any, Any]) -> None:
    known = weakref.ref(pipeline)  # the metrics must not keep a model alive

    def load() -> tuple[int, int]:
        return (0, 0) if (one := known()) is None else one.load()

    def rows() -> int:
        return 0 if (one := known()) is None else one.rows_in_use() or 0

    meter.start(load, None if pipeline.rows_in_use() is None else rows)
