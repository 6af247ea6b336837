"""Which versions may be batched, and how far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.engine.policy import BatchLimits
from service.errors import ModelLoadError
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles
from service.runtime.instances import Instances
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

    def limits(self, manifest: Manifest, is_isolated: bool = False) -> BatchLimits:
        """Return the limits of a model's lanes; an isolated model is never batched."""
        own = manifest.batching
        return BatchLimits(
            1 if is_isolated else self.max_batch_size or own.max_batch_size,
            self.max_queue_size or own.max_queue_size,
            self.max_queue_delay,
            own.max_batch_cost,
        )


def is_isolated(files: VersionFiles, variant: Sequence[str], reason: str) -> bool:
    """Return whether a version's items must run unbatched.

    Args:
        files: the version.
        variant: graphs whose answers depend on the other items of a batch.
        reason: why they do.

    Raises:
        ModelLoadError: there are such graphs, and the manifest refuses them.
    """
    wanted = files.manifest.batch_variance
    if variant and wanted == "refuse":
        raise ModelLoadError(
            f"{files.model}/{files.version}: {', '.join(variant)} in {files.precision} "
            f"{reason}, which batch_variance refuses"
        )
    return bool(variant) and wanted == "isolate"


def reads_padding(files: VersionFiles, model: Model, instances: Instances) -> list[str]:
    """Return the sessions in which a short text's answer depends on padding.

    Not checked for translators, and for a version with goldens, which are compared in padded
    batches too.
    """
    if files.goldens or files.manifest.task not in (Task.CLASSIFY, Task.EMBED):
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
