"""From a version's files to a pipeline that answers: open, prepare, assemble, check."""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from service.cache.responses import ResponseCache
from service.engine.device import memory_in_use
from service.engine.factory import EngineFactory
from service.errors import ModelLoadError
from service.registry.candidates import Choice
from service.registry.choice import Chooser, others_of
from service.registry.measurements import Measurements, MeasurementsFolder, measurements_key
from service.registry.opening import OpenVersion, abilities_of, open_version
from service.registry.parity import Parity, compare, still_agrees
from service.registry.preparation import BatchingOverrides, Preparation, prepare
from service.registry.progress import EnterPhase, LoadPhase, ignore_phase
from service.registry.trial import Option
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles, in_precision
from service.requests.pipeline import Pipeline
from service.runtime.instances import Instances
from service.runtime.stopping import apart
from service.tasks import Ability
from service.telemetry.meters import Load, ModelMeter
from service.types import ModelIdentity

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Loaded:
    """A version that answers, and what its load found out."""

    files: VersionFiles
    pipeline: Pipeline[Any, Any]
    instances: Instances
    device: str
    parity: Parity | None
    """How it compares with its goldens; None for a version without goldens."""
    seconds: float
    """Duration of the load."""
    choice: Choice | None = field(default=None, kw_only=True)
    """What computes it; None if there was nothing to choose."""
    providers: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """By session, the execution provider that computes it."""
    memory_bytes: int | None = field(default=None, kw_only=True)
    """What it takes, with the memory of its batches; None where that could not be measured."""
    used: int = field(default=0, kw_only=True)
    """Higher for a version that was asked later."""
    on_closed: Callable[[], None] = field(default=lambda: None, kw_only=True)
    """Called once it is closed."""

    @property
    def key(self) -> tuple[str, int]:
        """Return the model's name and the version."""
        return self.files.model, self.files.version

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
        try:
            return sum(await asyncio.gather(*(engine.stop(grace) for engine in engines)))
        finally:
            self.on_closed()


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
    kept: MeasurementsFolder = field(default_factory=MeasurementsFolder)
    """What earlier loads have measured."""
    chooser: Chooser = field(kw_only=True, default_factory=Chooser)
    """Chooses what computes a version."""

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
        started, runtime = time.perf_counter(), self.factory.runtime
        with runtime.turns.load() as is_alone:
            before = await apart(memory_in_use, runtime.device)
            enter(LoadPhase.OPENING)
            async with runtime.turns.working():
                key, kept = await apart(self._read_kept, files)
                opened = await self._opened(files, kept)
            enter(LoadPhase.WARMING_UP)
            if kept is None:
                opened = await self._chosen(opened)
            try:
                loaded, prepared = await self._warmed_up(opened, kept, enter)
            except ModelLoadError as error:
                if opened.choice is None or not opened.choice.chosen:
                    raise
                opened, kept = await self._first_choice(files, opened.choice, error), None
                loaded, prepared = await self._warmed_up(opened, kept, enter)
            after = await apart(memory_in_use, runtime.device)
            if is_alone() and before is not None and after is not None:
                loaded.memory_bytes = max(0, after - before)
        try:
            await self.factory.give_back(opened.version.runnable)
            await self._keep(key, loaded, prepared, kept)
        except BaseException:
            await loaded.close(grace=0)
            raise
        loaded.seconds = time.perf_counter() - started
        return loaded

    async def _opened(self, files: VersionFiles, kept: Measurements | None) -> "_Opened":
        """Open a version as an earlier load has chosen, else as the first choice is."""
        device, choice = self.factory.runtime.device, None if kept is None else kept.choice
        first = self.chooser.first(device, files.manifest)
        for one in () if choice is None else choice.chosen:
            if one.precision != files.precision:
                files = await apart(in_precision, files, one.precision)
        options = [] if kept else await apart(self.chooser.options, device, files)
        # With something to choose they are opened once it is chosen.
        has_multi_thread = not options if kept is None else kept.has_multi_thread
        others = others_of(choice, device)
        version = await open_version(
            files, self.factory.runtime, has_multi_thread, first=first, others=others
        )
        return _Opened(files, version, choice, options)

    async def _chosen(self, opened: "_Opened") -> "_Opened":
        runtime, rows = self.factory.runtime, self.overrides.limits(opened.files.manifest)
        found = await self.chooser.choose(
            runtime, opened.files, opened.version, opened.options, rows.max_batch_size
        )
        return _Opened(*found)

    async def _first_choice(
        self, files: VersionFiles, choice: Choice, error: ModelLoadError
    ) -> "_Opened":
        """Open the version as without a choice, because what was chosen did not pass."""
        facts = {"model": files.model, "version": files.version, "reason": str(error)}
        _log.warning("chosen engine refused", extra=facts)
        async with self.factory.runtime.turns.working():
            opened = await self._opened(files, None)
        return replace(opened, choice=choice.without(str(error)))

    async def _warmed_up(
        self, opened: "_Opened", kept: Measurements | None, enter: EnterPhase
    ) -> tuple[Loaded, Preparation]:
        """Return an open version, measured, whose engines run and that agrees with its goldens."""
        files, version = opened.files, opened.version
        prepared = await prepare(
            files, version, self.factory, self.overrides, self.warm_up_seconds, kept
        )
        meter, runtime = ModelMeter(files.model, files.version), self.factory.runtime
        pipeline = self._assemble(opened, prepared, meter)
        device, instances = str(runtime.device), version.runnable.instances
        loaded = Loaded(files, pipeline, instances, device, None, 0.0, choice=opened.choice)
        loaded.providers = {name: one.kind for name, one in instances.devices.items()}
        loaded.start()
        try:
            enter(LoadPhase.CHECKING_GOLDENS)
            async with runtime.turns.working():
                loaded.parity = await self._compared(loaded, version, prepared, kept)
            _start_counting(meter, pipeline)
        except BaseException:
            await loaded.close(grace=0)
            raise
        return loaded, prepared

    async def _keep(
        self, key: str, loaded: Loaded, prepared: Preparation, kept: Measurements | None
    ) -> None:
        """Keep what was measured, and take what an earlier load has measured of the memory."""
        if kept is not None and prepared.is_kept:
            if kept.memory_bytes is not None:
                loaded.memory_bytes = kept.memory_bytes
            if kept.memory_bytes == loaded.memory_bytes and kept.parity == loaded.parity:
                return
        found = Measurements(
            prepared.curves,
            loaded.instances.multi_thread is not None,
            prepared.padded,
            loaded.parity,
            loaded.memory_bytes,
            loaded.choice,
        )
        await apart(self.kept.write, key, found)

    def memory_of(self, files: VersionFiles) -> int | None:
        """Return the bytes that an earlier load measured. Reads files."""
        kept = self._read_kept(files)[1]
        return None if kept is None else kept.memory_bytes

    def _read_kept(self, files: VersionFiles) -> tuple[str, Measurements | None]:
        """Return the key of a version's measurements, and what is kept under it."""
        limits = self.overrides.limits(files.manifest)
        runtime, facts = self.factory.runtime, self.chooser.facts
        key = measurements_key(files, runtime, limits, self.warm_up_seconds, facts)
        return key, self.kept.read(key)

    async def _compared(
        self,
        loaded: Loaded,
        version: OpenVersion,
        prepared: Preparation,
        kept: Measurements | None,
    ) -> Parity | None:
        """Compare a version with its goldens; with one of them if an earlier load has."""
        files, pipeline = loaded.files, loaded.pipeline
        known = kept.parity if kept is not None and prepared.is_kept else None
        if known is not None and await still_agrees(pipeline, files, known):
            return known
        run_batch = None
        if prepared.limits.max_batch_size > 1:
            run_batch = partial(self.factory.run_batch, version.runnable)
        choice = loaded.choice
        return await compare(
            pipeline,
            files,
            loaded.device,
            prepared.variant,
            version.row_scaled,
            run_batch,
            tolerance=None if choice is None or not choice.chosen else choice.tolerance,
        )

    def _assemble(
        self, opened: "_Opened", prepared: Preparation, meter: ModelMeter
    ) -> Pipeline[Any, Any]:
        files, version = opened.files, opened.version
        made = self.factory.make(version.runnable, prepared.curves, prepared.limits, meter)
        return Pipeline(
            files.manifest.task,
            version.modalities,
            opened.identity,
            version.family,
            made.engines,
            self.cache,
            made.incoming,
            meter,
            version.abilities,
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    """A version, perhaps in another precision than was asked for, and what computes it."""

    files: VersionFiles
    version: OpenVersion
    choice: Choice | None
    options: Sequence[Option] = ()
    """What could compute it besides."""

    @property
    def identity(self) -> ModelIdentity:
        """Return what tells its answers from others; replicas that share a cache may differ."""
        numbers = {
            one.inference_precision
            for one in (() if self.choice is None else self.choice.chosen)
            if one.inference_precision != "f32"
        }
        own = self.files.identity
        return replace(own, digest="-".join([own.digest, *sorted(numbers)]))


def _start_counting(meter: ModelMeter, pipeline: Pipeline[Any, Any]) -> None:
    known = weakref.ref(pipeline)  # the metrics must not keep a model alive

    def load() -> Load:
        return Load() if (one := known()) is None else one.load()

    def rows() -> int:
        return 0 if (one := known()) is None else one.rows_in_use() or 0

    meter.start(load, None if pipeline.rows_in_use() is None else rows)
