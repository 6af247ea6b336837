"""Makes the engines of a model on one device, and measures what they need to know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.device import DeviceRuntime
from service.engine.dispatch import Inline, run_on
from service.engine.engine import Engine
from service.engine.inflight.engine import InFlightEngine, InstanceOptions, loops_on
from service.engine.inflight.scheduler import InFlight
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.warmup import still_holds, time_lane, warm_up_plan
from service.runtime.instances import Instances
from service.telemetry.meters import Meter
from service.types import Model, PreparedItem, Tensors


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """A model with its open sessions."""

    model: Model
    in_flight: InFlight | None
    """For a model whose items join and leave a running batch."""
    instances: Instances
    is_steady: bool
    """Whether the time of a run depends only on the shape of its input."""
    version: tuple[str, str]
    """The model's name and version, for the log and the metrics."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one version by lane, each with its preprocessing queue."""

    engines: Mapping[str, Engine]
    incoming: Mapping[str, PreprocessQueue]


@dataclass(frozen=True, slots=True)
class EngineFactory:
    """Makes engines that share one device."""

    runtime: DeviceRuntime

    async def warm_up(
        self, runnable: RunnableModel, limits: BatchLimits, seconds: float
    ) -> Mapping[str, BatchCurve]:
        """Return how long batches take, by lane; measured for about `seconds` each.

        Nothing else is loaded meanwhile. Drops the multi-thread sessions if no lane is faster on
        them.
        """
        async with self.runtime.turns.measuring():
            return await self._measured(runnable, limits, seconds)

    async def _measured(
        self, runnable: RunnableModel, limits: BatchLimits, seconds: float
    ) -> Mapping[str, BatchCurve]:
        curves: dict[str, BatchCurve] = {}
        multi_thread_pays = False
        dispatch = await self.runtime.dispatch()
        for lane in runnable.model.lanes:
            plan = warm_up_plan(lane, limits, seconds)
            curve, pays = await self.runtime.in_turn(
                time_lane, runnable.model, runnable.instances, lane.name, plan, dispatch
            )
            curves[lane.name], multi_thread_pays = curve, multi_thread_pays or pays
        runnable.instances.keep_multi_thread(multi_thread_pays)
        return curves

    async def still_hold(self, runnable: RunnableModel, curves: Mapping[str, BatchCurve]) -> bool:
        """Measure one point of each lane again; return whether the curves still hold."""
        lanes = [lane.name for lane in runnable.model.lanes]
        if lanes != list(curves):
            return False
        for lane in lanes:
            holds = await self.runtime.in_turn(
                still_holds, runnable.model, runnable.instances, lane, curves[lane]
            )
            if not holds:
                return False
        return True

    async def give_back(self, runnable: RunnableModel) -> None:
        """Give back the memory that batches needed; the next large batch takes it again."""
        model, instances = runnable.model, runnable.instances
        for lane in model.lanes:
            item = model.probe(lane.name, lane.lengths[0])
            await self.runtime.in_turn(instances.give_back, model.infer, item)

    def make(
        self,
        runnable: RunnableModel,
        curves: Mapping[str, BatchCurve],
        limits: BatchLimits,
        meter: Meter,
    ) -> Engines:
        """Return an engine for each lane; none is started."""
        runtime = self.runtime
        incoming = {lane: PreprocessQueue(runtime.preprocess, runtime.cores) for lane in curves}
        if runnable.in_flight is not None:
            options = self._instance_options(runnable, runnable.in_flight, limits)
            return Engines(
                {
                    lane: InFlightEngine(
                        runnable.in_flight,
                        options,
                        limits,
                        meter,
                        curve,
                        incoming=incoming[lane],
                    )
                    for lane, curve in curves.items()
                },
                incoming,
            )
        run = partial(runnable.instances.infer, runnable.model.infer)
        return Engines(
            {
                lane: Batcher(
                    partial(run_on, runtime.compute, run),
                    limits,
                    runtime.slots,
                    meter,
                    curve,
                    inline=self._inline(runnable, curve),
                    incoming=incoming[lane],
                )
                for lane, curve in curves.items()
            },
            incoming,
        )

    async def run_batch(
        self, runnable: RunnableModel, batch: Sequence[PreparedItem]
    ) -> Sequence[Tensors]:
        """Run exactly this batch, whatever a batcher would make of it."""
        infer, in_turn = runnable.model.infer, self.runtime.in_turn
        return await in_turn(runnable.instances.infer, infer, batch, False)

    def _inline(self, runnable: RunnableModel, curve: BatchCurve) -> Inline | None:
        if not runnable.is_steady:
            return None
        run = partial(runnable.instances.infer, runnable.model.infer)
        clock = runnable.instances.clock
        return Inline(curve, run, self.runtime.watch, runnable.version, clock)

    def _instance_options(
        self, runnable: RunnableModel, in_flight: InFlight, limits: BatchLimits
    ) -> InstanceOptions:
        """Return one instance for each thread of ours, or one on a device with its own threads."""
        runtime, model = self.runtime, runnable.model
        rows = max(in_flight.rows_for(model.probe(lane.name, 1)) for lane in model.lanes)
        return InstanceOptions(
            runtime.slots.threads if runtime.device.provider.our_threads else 1,
            limits.max_batch_size * rows,
            runtime.slots,
            runnable.instances.use,
            loops_on(runtime.compute),
        )
