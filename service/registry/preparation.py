"""What a load finds out about an open version: how it may be batched, and how long batches take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.engine.curve import BatchCurve
from service.engine.factory import EngineFactory
from service.engine.policy import BatchLimits
from service.errors import ModelLoadError, ServiceError
from service.memory import return_free_memory
from service.registry.checks import is_isolated, try_head
from service.registry.measurements import Measurements
from service.registry.opening import OpenVersion
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles
from service.runtime.instances import Instances
from service.runtime.stopping import apart
from service.tasks import Task
from service.types import Model, Tensors

_TEXTS = "input_ids"

# Shortest length of the longer text, if the model takes one.
_LENGTH = 16


@dataclass(frozen=True, slots=True)
class BatchingOverrides:
    """What the operator's settings override in every manifest; None keeps the manifest's value."""

    max_batch_size: int | None = None
    max_queue_size: int | None = None
    max_queue_delay: float = 0.0
    """Seconds."""
    processes: int = 1
    """That share the manifest's `max_queue_size`; the operator's is this process's part."""

    def queue_size(self, manifest: Manifest) -> int:
        """Return the largest number of queued items of a model in this process."""
        return self.max_queue_size or -(-manifest.batching.max_queue_size // self.processes)

    def limits(self, manifest: Manifest, is_isolated: bool = False) -> BatchLimits:
        """Return the limits of a model's lanes; an isolated model is never batched."""
        own = manifest.batching
        return BatchLimits(
            1 if is_isolated else self.max_batch_size or own.max_batch_size,
            self.queue_size(manifest),
            self.max_queue_delay,
            own.max_batch_cost,
        )


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the items of a version are batched."""

    limits: BatchLimits
    curves: Mapping[str, BatchCurve]
    """By lane."""
    variant: Sequence[str]
    """Graphs whose answers depend on the other items of a batch."""
    padded: Sequence[str]
    """Those of them that read the padding of shorter texts."""
    is_kept: bool = False
    """Whether an earlier load has found it out."""


async def prepare(
    files: VersionFiles,
    version: OpenVersion,
    factory: EngineFactory,
    overrides: BatchingOverrides,
    seconds: float,
    kept: Measurements | None = None,
) -> Preparation:
    """Find out whether batches change answers, and how long they take.

    What was kept is used if a point of each curve, measured again, still holds.

    Args:
        files: the version.
        version: the same, with open sessions.
        factory: makes its engines.
        overrides: what the operator's settings say.
        seconds: time to measure batches, for each lane.
        kept: what an earlier load of the same files has found.

    Raises:
        ModelLoadError: a run failed, or the graphs are not the family's.
    """
    runnable = version.runnable
    limits = overrides.limits(files.manifest, is_isolated(files, version.batch_wide))
    if (signature := version.family.traits.signature) and not signature.is_batched:
        limits = replace(limits, max_batch_size=1)
    reason = "reads the padding of shorter texts"
    padded = list[str]()
    try:
        if kept is not None and await factory.still_hold(runnable, kept.curves):
            runnable.instances.keep_multi_thread(kept.has_multi_thread)
            if kept.padded:
                limits = overrides.limits(files.manifest, is_isolated(files, kept.padded, reason))
            variant = [*version.batch_wide, *kept.padded]
            return Preparation(limits, kept.curves, variant, kept.padded, is_kept=True)
        if limits.max_batch_size > 1:
            padded = await apart(_reads_padding, files, runnable.model, runnable.instances)
            limits = overrides.limits(files.manifest, is_isolated(files, padded, reason))
        await apart(try_head, files, version.family, runnable.instances)
        curves = await factory.warm_up(runnable, limits, seconds)
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
    return Preparation(limits, curves, [*version.batch_wide, *padded], padded)


def _reads_padding(files: VersionFiles, model: Model, instances: Instances) -> list[str]:
    """Return the sessions in which a short text's answer depends on padding.

    Not checked for translators, and for a version with goldens, which are compared in padded
    batches too.
    """
    if files.goldens or files.manifest.task not in (Task.CLASSIFY, Task.TAG, Task.EMBED):
        return []
    found: list[str] = []
    for lane in model.lanes:
        lengths = [length for length in lane.lengths if length >= _LENGTH]
        if _TEXTS not in model.probe(lane.name, lane.lengths[0]).tensors or len(lane.lengths) < 2:  # noqa: PLR2004
            continue
        long = model.probe(lane.name, min(lengths, default=lane.lengths[-1]))
        short = model.probe(lane.name, lane.lengths[0])
        (unbatched,) = instances.infer(model.infer, [short], exclusive=False)
        padded, _ = instances.infer(model.infer, [short, long], exclusive=False)
        if _difference(unbatched, padded) > files.tolerance:
            found += lane.sessions
    return found


def _difference(one: Tensors, other: Tensors) -> float:
    """Return the largest difference between floating-point values."""
    floats = [name for name, value in one.items() if value.dtype.kind == "f"]
    return max((float(np.abs(one[name] - other[name]).max()) for name in floats), default=0.0)
