"""From a version's files to a pipeline that answers: open, warm up, check the goldens."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from service.batching.batcher import Batcher
from service.batching.curve import BatchCurve
from service.batching.dispatch import dispatch_seconds, run_on
from service.batching.policy import BatchLimits
from service.batching.slots import Slots
from service.cache.keys import ModelIdentity
from service.cache.responses import CacheMode, ResponseCache
from service.errors import ModelLoadError, ServiceError
from service.families import FAMILIES
from service.metrics import ModelMeter, SilentMeter
from service.pipeline import CallOptions, Pipeline
from service.repository.deviation import deviation, total_deviation
from service.repository.goldens import Golden
from service.repository.manifest import Manifest, read_parameters
from service.repository.repository import VersionFiles
from service.runtime.devices import Device
from service.runtime.instances import Instances
from service.runtime.memory import return_free_memory
from service.runtime.warmup import WarmUpPlan, measure, wide_pays
from service.types import Family, Lane

_CALM = CallOptions(priority=-100, cache=CacheMode.BYPASS)
"""How goldens are asked: behind everybody else, and never from the cache."""


_READY = 1
"""Batches formed ahead, so that a thread that ends one begins the next without the event loop:
5 % more of a DistilBERT-size classifier at 32 and 64 in flight (two cores, interleaved)."""


@dataclass(frozen=True, slots=True)
class BatchingOverrides:
    """What the operator sets over the manifests; None leaves the manifest's."""

    max_batch_size: int | None = None
    max_queue_size: int | None = None
    max_queue_delay: float = 0.0
    """Seconds."""

    def limits(self, manifest: Manifest) -> BatchLimits:
        """Return the limits of a model's lanes."""
        own = manifest.batching
        return BatchLimits(
            self.max_batch_size or own.max_batch_size,
            self.max_queue_size or own.max_queue_size,
            self.max_queue_delay,
            own.max_batch_cost,
        )


@dataclass(eq=False, slots=True)
class DeviceRuntime:
    """A device with its threads, shared by all models on it."""

    device: Device
    cores: int
    slots: Slots = field(init=False)
    compute: ThreadPoolExecutor = field(init=False)
    preprocess: ThreadPoolExecutor = field(init=False)
    _dispatch: float | None = field(default=None, init=False)

    _MOST_BATCHES = 8

    def __post_init__(self) -> None:
        # On a GPU two batches at once: one computes while the other is collated and copied.
        count = min(self.cores, self._MOST_BATCHES) if self.device.kind == "cpu" else 2
        self.slots = Slots(count, _READY)
        self.compute = ThreadPoolExecutor(count, "compute")
        self.preprocess = ThreadPoolExecutor(max(1, self.cores), "preprocess")

    @property
    def threads(self) -> tuple[int, int]:
        """Return the threads of a session when the device is shared, and when it is alone."""
        if self.device.kind != "cpu":
            return 1, 1
        return max(1, self.cores // self.slots.threads), self.cores

    async def dispatch(self) -> float:
        """Return the seconds a batch costs beside its computation; measured once."""
        if self._dispatch is None:
            self._dispatch = await dispatch_seconds(self.compute, self.slots)
        return self._dispatch

    def close(self) -> None:
        """Finish what runs, then end the threads."""
        self.compute.shutdown(wait=True, cancel_futures=True)
        self.preprocess.shutdown(wait=True, cancel_futures=True)


@dataclass(eq=False, slots=True)
class Loaded:
    """A version that answers, and what was learnt while it was loaded."""

    files: VersionFiles
    pipeline: Pipeline[Any, Any]
    instances: Instances
    device: Device
    deviation: float | None
    """Largest deviation from the goldens; None where the version has none."""
    seconds: float
    """What the load took."""

    async def close(self, grace: float) -> None:
        """Give accepted items `grace` seconds, then stop. The sessions go with this object."""
        await asyncio.gather(*(b.stop(grace) for b in self.pipeline.batchers.values()))


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions onto one device."""

    runtime: DeviceRuntime
    cache: ResponseCache
    overrides: BatchingOverrides = BatchingOverrides()
    warm_up_seconds: float = 1.0
    """Budget for timing batches, per lane."""

    async def load(self, files: VersionFiles) -> Loaded:
        """Open, warm up every batch bucket, check the goldens.

        Raises:
            ModelLoadError: a step failed, or an answer is further from its golden than allowed.
        """
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        preprocess = self.runtime.preprocess
        family = await loop.run_in_executor(preprocess, _open_family, files)
        instances = await loop.run_in_executor(
            preprocess, Instances, files.graphs, self.runtime.device, self.runtime.threads
        )
        try:
            curves = await self._warm_up(files.manifest, family, instances)
            await loop.run_in_executor(preprocess, return_free_memory)
        except ServiceError as error:
            raise ModelLoadError(f"{files.model}/{files.version} warm-up: {error}") from error
        pipeline = self._pipeline(files, family, instances, curves)
        loaded = Loaded(files, pipeline, instances, self.runtime.device, None, 0.0)
        for batcher in pipeline.batchers.values():
            batcher.start()
        try:
            loaded.deviation = await _check_goldens(pipeline, files)
            pipeline.count_with(ModelMeter(files.model, files.version))
        except BaseException:
            await loaded.close(grace=0)
            raise
        loaded.seconds = time.perf_counter() - started
        return loaded

    async def _warm_up(
        self, manifest: Manifest, family: Family[Any, Any], instances: Instances
    ) -> Mapping[str, BatchCurve]:
        curves = {}
        pays = False
        dispatch = await self.runtime.dispatch()
        for lane in family.lanes:
            plan = _plan(lane, self.overrides.limits(manifest), self.warm_up_seconds)
            await self.runtime.slots.acquire()  # so that models already serving keep their share
            try:
                curve, lane_pays = await _on(
                    self.runtime.compute, _time_lane, family, instances, lane.name, plan, dispatch
                )
            finally:
                self.runtime.slots.release()
            curves[lane.name], pays = curve, pays or lane_pays
        instances.keep_wide(pays)
        return curves

    def _pipeline(
        self,
        files: VersionFiles,
        family: Family[Any, Any],
        instances: Instances,
        curves: Mapping[str, BatchCurve],
    ) -> Pipeline[Any, Any]:
        meter = SilentMeter()
        limits = self.overrides.limits(files.manifest)
        run_batch = partial(run_on, self.runtime.compute, partial(instances.infer, family.infer))
        batchers = {
            lane: Batcher(run_batch, limits, self.runtime.slots, meter, curve)
            for lane, curve in curves.items()
        }
        return Pipeline(
            files.manifest.task,
            ModelIdentity(files.model, files.version, files.digest),
            family,
            batchers,
            self.cache,
            self.runtime.preprocess,
            meter,
        )


async def _on(executor: Executor, function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)


def _open_family(files: VersionFiles) -> Family[Any, Any]:
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
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{files.model}/{files.version}: {error}") from error


def _plan(lane: Lane, limits: BatchLimits, budget: float) -> WarmUpPlan:
    """Time at most four lengths, spread from the shortest to the longest."""
    lengths = list(lane.lengths)
    if len(lengths) > 4:  # noqa: PLR2004 - said above
        picked = sorted({0, len(lengths) // 3, 2 * len(lengths) // 3, len(lengths) - 1})
        lengths = [lengths[index] for index in picked]
    return WarmUpPlan(lengths, limits.max_batch_size, limits.max_batch_cost, budget)


def _time_lane(
    family: Family[Any, Any], instances: Instances, lane: str, plan: WarmUpPlan, dispatch: float
) -> tuple[BatchCurve, bool]:
    """Measure one lane on this thread; also whether a lone item gains from all threads."""
    probe = partial(family.probe, lane)
    curve = BatchCurve.of(measure(family.infer, instances.narrow, probe, plan), dispatch)
    middle = probe(plan.lengths[len(plan.lengths) // 2])
    wide = instances.wide
    return curve, wide is not None and wide_pays(family.infer, instances.narrow, wide, middle)


async def _check_goldens(pipeline: Pipeline[Any, Any], files: VersionFiles) -> float | None:
    """Ask every golden alone and all of them together; return the largest deviation.

    Raises:
        ModelLoadError: an answer failed, or is further from its golden than the tolerance.
    """
    goldens: Sequence[Golden] = files.goldens
    if not goldens:
        return None
    worst = 0.0
    for label, ask in (("alone", _one_by_one), ("in a batch", _together)):
        try:
            answers = await ask(pipeline, goldens)
        except ServiceError as error:
            raise ModelLoadError(f"a golden item failed: {error}") from error
        found = [deviation(a, g.answer) for a, g in zip(answers, goldens, strict=True)]
        total = total_deviation(pipeline.task, found)
        if not total <= files.tolerance:
            raise ModelLoadError(
                f"goldens asked {label} deviate by {total:.3g} from their recorded answers (worst "
                f"is number {found.index(max(found))}); {files.precision} allows "
                f"{files.tolerance:g}"
            )
        worst = max(worst, total)
    return worst


async def _one_by_one(pipeline: Pipeline[Any, Any], goldens: Sequence[Golden]) -> Sequence[Any]:
    return [(await pipeline.answer(golden.item, _CALM)).answer for golden in goldens]


async def _together(pipeline: Pipeline[Any, Any], goldens: Sequence[Golden]) -> Sequence[Any]:
    outcomes = await asyncio.gather(*(pipeline.answer(g.item, _CALM) for g in goldens))
    return [outcome.answer for outcome in outcomes]
