"""How long a lane's batches take, timed before the lane is ready: what, and on which sessions."""

from functools import partial
from typing import Any

from service.batching.curve import BatchCurve
from service.batching.policy import BatchLimits
from service.runtime.instances import Instances
from service.runtime.warmup import WarmUpPlan, lone_length, measure, wide_pays
from service.types import Family, Lane


def warm_up_plan(lane: Lane, limits: BatchLimits, budget: float) -> WarmUpPlan:
    """Time at most four lengths, spread from the shortest to the longest."""
    lengths = list(lane.lengths)
    if len(lengths) > 4:  # noqa: PLR2004 - said above
        picked = sorted({0, len(lengths) // 3, 2 * len(lengths) // 3, len(lengths) - 1})
        lengths = [lengths[index] for index in picked]
    return WarmUpPlan(lengths, limits.max_batch_size, limits.max_batch_cost, budget)


def time_lane(
    family: Family[Any, Any], instances: Instances, lane: str, plan: WarmUpPlan, dispatch: float
) -> tuple[BatchCurve, bool]:
    """Measure one lane on this thread; also whether a lone item gains from all threads."""
    probe = partial(family.probe, lane)
    measured = measure(family.infer, instances.narrow, probe, plan, instances.clock)
    curve = BatchCurve.of(measured, dispatch)
    wide = instances.wide
    if wide is None:
        return curve, False
    lone = probe(lone_length(measured, plan.lengths))
    return curve, wide_pays(family.infer, instances.narrow, wide, lone)
