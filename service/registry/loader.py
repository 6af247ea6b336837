"""From a version's files to a pipeline that answers: open, warm up, check the goldens."""

import asyncio
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from service.cache.responses import ResponseCache
from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.device import DeviceRuntime
from service.engine.dispatch import RunHere, run_on
from service.engine.engine import Engine
from service.engine.inflight.engine import InFlightEngine, Instancing, loops_on
from service.engine.inline import Inline
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.warmup import time_lane, warm_up_plan
from service.errors import ModelLoadError, ServiceError
from service.families import FAMILIES
from service.families.family import Opened
from service.memory import return_free_memory
from service.registry.checks import reads_padding, refuse_misfits, try_head
from service.registry.parity import Parity, compare
from service.registry.progress import EnterPhase, LoadPhase, ignore_phase
from service.repository.manifest import Manifest, read_parameters
from service.repository.onnx_file.analysis import (
    BATCH_WIDE,
    BOUNDED,
    content_sized,
    operators,
    shared_initializers,
)
from service.repository.onnx_file.cut import disjoint_parts
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.records import OnnxFile
from service.repository.repository import VersionFiles
from service.requests.pipeline import Pipeline
from service.runtime.graphs import Graph, PartOfGraph, SharingGraph
from service.runtime.instances import Instances
from service.runtime.providers import Device
from service.runtime.stopping import apart
from service.telemetry.meters import ModelMeter
from service.types import ModelIdentity, PreparedItem, Tensors


@dataclass(frozen=True, slots=True)
class BatchingOverrides:
    """What the operator sets over the manifests; None leaves the manifest's."""

    max_batch_size: int | None = None
    max_queue_size: int | None = None
    max_queue_delay: float = 0.0
    """Seconds."""

    def limits(self, manifest: Manifest, isolated: bool = False) -> BatchLimits:
        """Return the limits of a model's lanes; an isolated one never batches."""
        own = manifest.batching
        return BatchLimits(
            1 if isolated else self.max_batch_size or own.max_batch_size,
            self.max_queue_size or own.max_queue_size,
            self.max_queue_delay,
            own.max_batch_cost,
        )


@dataclass(eq=False, slots=True)
class Loaded:
    """A version that answers, and what was learnt while it was loaded."""

    files: VersionFiles
    pipeline: Pipeline[Any, Any]
    instances: Instances
    device: Device
    parity: Parity | None
    """How it compares with its goldens; None where the version has none."""
    seconds: float
    """What the load took."""

    def start(self) -> None:
        """Start the engines."""
        for engine in self.pipeline.engines.values():
            engine.start()

    async def close(self, grace: float) -> int:
        """Give accepted items `grace` seconds, then stop. The sessions go with this object.

        Returns:
            How many runs were told to stop and go on; each holds its slot until it ends.
        """
        engines = self.pipeline.engines.values()
        return sum(await asyncio.gather(*(engine.stop(grace) for engine in engines)))


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions onto one device."""

    runtime: DeviceRuntime
    cache: ResponseCache
    overrides: BatchingOverrides = BatchingOverrides()
    warm_up_seconds: float = 1.0
    """Budget for timing batches, per lane."""

    most_seconds: float = 600.0
    """How long a load may take."""

    def modalities(self, family: str) -> frozenset[str]:
        """Return what the models of a family take; nothing for a family that does not exist."""
        entry = FAMILIES.get(family)
        return frozenset() if entry is None else entry.modalities

    async def load(self, files: VersionFiles, enter: EnterPhase = ignore_phase) -> Loaded:
        """Open, warm up every batch bucket, check the goldens; report each phase as it begins.

        A cancellation stops all of it.

        Raises:
            ModelLoadError: a step failed, or an answer is further from its golden than allowed, or
                it took too long.
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
        content, batch_wide, varying = await apart(_read_graphs, files)
        limits = self._limits(files, batch_wide, "quantises over whole batches")
        family = await apart(_open_family, files)
        await apart(refuse_misfits, files, family)
        graphs = await apart(_graphs, files, content, family, self.runtime.device)
        steps = family.traits.in_flight is not None
        runtime, bounded = self.runtime, steps or varying <= BOUNDED
        opening = partial(
            runtime.device.provider.opens,
            keeps_patterns=not steps,
            is_bounded=bounded,
            input_names=files.manifest.inputs,
        )
        instances = await apart(Instances, graphs, runtime.device, runtime.threads, opening)
        enter(LoadPhase.WARMING_UP)
        limits, curves, padded = await self._prepared(files, family, instances, limits)
        meter = ModelMeter(files.model, files.version)
        measured = _Measured(curves, not varying)
        pipeline = self._pipeline(files, family, instances, measured, limits, meter)
        loaded = Loaded(files, pipeline, instances, self.runtime.device, None, 0.0)
        loaded.start()
        try:
            enter(LoadPhase.CHECKING_GOLDENS)
            together = None
            if limits.max_batch_size > 1:
                together = partial(self._together, partial(instances.infer, family.model.infer))
            loaded.parity = await compare(
                pipeline, files, str(self.runtime.device), [*batch_wide, *padded], together
            )
            _start_counting(meter, pipeline)
        except BaseException:
            await loaded.close(grace=0)
            raise
        loaded.seconds = time.perf_counter() - started
        return loaded

    async def _prepared(
        self,
        files: VersionFiles,
        family: Opened[Any, Any],
        instances: Instances,
        limits: BatchLimits,
    ) -> tuple[BatchLimits, Mapping[str, BatchCurve], Sequence[str]]:
        """Return what may be batched, how long batches take, and what reads padding."""
        padded = list[str]()
        try:
            if limits.max_batch_size > 1:
                padded = await apart(reads_padding, files, family.model, instances)
                limits = self._limits(files, padded, "reads the padding of shorter texts")
            await apart(try_head, files, family, instances)
            curves = await self._warm_up(limits, family, instances)
            await apart(return_free_memory)
        except ModelLoadError:
            raise
        except ServiceError as error:
            raise ModelLoadError(f"{files.model}/{files.version} warm-up: {error}") from error
        except Exception as error:  # of a graph that gives what no family knows how to take
            raise ModelLoadError(
                f"{files.model}/{files.version} warm-up: the graph does not fit the family "
                f"{files.manifest.family} ({type(error).__name__}: {error})"
            ) from error
        return limits, curves, padded

    def _limits(self, files: VersionFiles, batch_wide: Sequence[str], does: str) -> BatchLimits:
        return self.overrides.limits(files.manifest, _is_isolated(files, batch_wide, does))

    async def _warm_up(
        self, limits: BatchLimits, family: Opened[Any, Any], instances: Instances
    ) -> Mapping[str, BatchCurve]:
        curves = {}
        pays = False
        dispatch = await self.runtime.dispatch()
        for lane in family.model.lanes:
            plan = warm_up_plan(lane, limits, self.warm_up_seconds)
            curve, lane_pays = await self.runtime.in_turn(
                time_lane, family.model, instances, lane.name, plan, dispatch
            )
            curves[lane.name], pays = curve, pays or lane_pays
        instances.keep_multi_thread(pays)
        return curves

    async def _together(self, run: RunHere, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run works as one batch, in turn with what the models already serving run."""
        return await self.runtime.in_turn(run, batch, False)

    def _pipeline(
        self,
        files: VersionFiles,
        family: Opened[Any, Any],
        instances: Instances,
        measured: "_Measured",
        limits: BatchLimits,
        meter: ModelMeter,
    ) -> Pipeline[Any, Any]:
        runtime = self.runtime
        run = partial(instances.infer, family.model.infer)
        engines: dict[str, Engine] = {}
        incoming = {
            lane: PreprocessQueue(runtime.preprocess, runtime.cores) for lane in measured.curves
        }
        for lane, curve in measured.curves.items():
            if (in_flight := family.traits.in_flight) is not None:
                rows = in_flight.rows_for(family.model.probe(lane, 1))
                device = self._instancing(instances, rows, limits)
                engines[lane] = InFlightEngine(
                    in_flight, device, limits, meter, curve, incoming=incoming[lane]
                )
            else:
                inline = None
                if measured.is_steady:
                    version = (files.model, str(files.version))
                    inline = Inline(curve, run, runtime.watch, version, instances.clock)
                engines[lane] = Batcher(
                    partial(run_on, runtime.compute, run),
                    limits,
                    runtime.slots,
                    meter,
                    curve,
                    inline=inline,
                    incoming=incoming[lane],
                )
        return Pipeline(
            files.manifest.task,
            FAMILIES[files.manifest.family].modalities,
            ModelIdentity(files.model, files.version, files.digest),
            family,
            engines,
            self.cache,
            incoming,
            meter,
            self.runtime.texts,
        )

    def _instancing(self, instances: Instances, rows: int, limits: BatchLimits) -> Instancing:
        """Return as many instances as a CPU has threads for, for works of so many rows each."""
        runtime = self.runtime
        return Instancing(
            runtime.slots.threads if runtime.device.provider.our_threads else 1,
            limits.max_batch_size * rows,
            runtime.slots,
            instances.use,
            loops_on(runtime.compute),
        )


class _Measured(NamedTuple):
    curves: Mapping[str, BatchCurve]
    """By lane."""
    is_steady: bool
    """Whether how long a run takes depends on the size of its input only."""


def _start_counting(meter: ModelMeter, pipeline: Pipeline[Any, Any]) -> None:
    known = weakref.ref(pipeline)  # the metrics must not keep a model alive

    def load() -> tuple[int, int]:
        return (0, 0) if (one := known()) is None else one.load()

    def rows() -> int:
        return 0 if (one := known()) is None else one.rows_in_use() or 0

    meter.start(load, None if pipeline.rows_in_use() is None else rows)


def _read_graphs(
    files: VersionFiles,
) -> tuple[Mapping[Path, OnnxFile], Sequence[str], frozenset[str]]:
    """Return the graphs' content, and what of it decides how the version is run.

    Raises:
        ModelLoadError: a graph cannot be read.

    Returns:
        The content by file; the sessions whose graph quantises over whole batches; the operators
        that make the work depend on the content of an input.
    """
    content = {path: read_onnx(path) for path in files.graphs.values()}
    wide = [name for name, path in files.graphs.items() if operators(content[path]) & BATCH_WIDE]
    return content, wide, frozenset[str]().union(*map(content_sized, content.values()))


def _open_family(files: VersionFiles) -> Opened[Any, Any]:
    entry = FAMILIES.get(files.manifest.family)
    if entry is None or entry.task is not files.manifest.task:
        known = ", ".join(n for n, e in FAMILIES.items() if e.task is files.manifest.task)
        raise ModelLoadError(
            f"family {files.manifest.family!r} does not answer {files.manifest.task}; "
            f"these do: {known}"
        )
    where = f"{files.model}/{files.version}/model.toml"
    parameters = read_parameters(files.manifest.parameters, entry.parameters, where)
    try:
        return entry.open(files.folder, parameters)
    except (OSError, ValueError, MemoryError, ModelLoadError) as error:
        said = str(error).replace(f"{files.folder}/", "")  # where it is on this machine
        raise ModelLoadError(f"{files.model}/{files.version}: {said}") from error


def _graphs(
    files: VersionFiles,
    content: Mapping[Path, OnnxFile],
    family: Opened[Any, Any],
    device: Device,
) -> Mapping[str, Graph]:
    """Return what to open by session: a version's graphs, or the parts of one. ModelLoadError."""
    graphs: dict[str, Path | PartOfGraph] = dict(files.graphs)
    for name, outputs in family.traits.parts.items():
        file = files.graphs.get(name)
        if file is not None and (parts := disjoint_parts(file, content[file], outputs)):
            del graphs[name]
            graphs.update(parts)
    if not device.provider.is_on_host:
        return graphs
    return {name: _sharing(graph, content) for name, graph in graphs.items()}


def _sharing(graph: Path | PartOfGraph, content: Mapping[Path, OnnxFile]) -> Graph:
    tables = shared_initializers(content[graph if isinstance(graph, Path) else graph.file])
    return SharingGraph.of(graph, tables) if tables else graph


def _is_isolated(files: VersionFiles, batch_wide: Sequence[str], does: str) -> bool:
    """Tell whether items of a version run alone. Raises ModelLoadError if it is unwanted."""
    wanted = files.manifest.batch_variance
    if batch_wide and wanted == "refuse":
        raise ModelLoadError(
            f"{files.model}/{files.version}: {', '.join(batch_wide)} in {files.precision} "
            f"{does}, which batch_variance refuses"
        )
    return bool(batch_wide) and wanted == "isolate"
