"""The state of a version, and what an operator may see of it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from service.registry.aliases import Aliases
from service.registry.candidates import Candidate
from service.registry.loader import Loaded
from service.registry.parity import Parity
from service.registry.progress import LoadPhase
from service.repository.manifest import Manifest
from service.tasks import Ability, ComposedTask, Task
from service.telemetry import metrics

_DESCRIBED = (
    metrics.MODEL_STATE,
    metrics.MODEL_INFO,
    metrics.MODEL_LOAD_SECONDS,
    metrics.MODEL_GOLDEN_DEVIATION,
    metrics.MODEL_GOLDEN_FLIPS,
    metrics.MODEL_BATCH_DEVIATION,
    metrics.MODEL_GOLDEN_TOLERANCE,
    metrics.MODEL_CANDIDATE_TIME,
    metrics.MODEL_QUEUE_LIMIT,
    metrics.MODEL_BATCH_LIMIT,
    metrics.MODEL_FALLBACK,
)
"""Gauges of a version, removed with it. Its counters stay, for rates need the past."""


class ModelState(StrEnum):
    """Where a version is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    ON_DEMAND = "on_demand"
    """Not in memory; its next request loads it."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What an operator wants to know about one version of a model."""

    model: str
    version: int | None
    """None for a folder that holds no version that can be read."""
    state: ModelState
    task: Task | None = None
    family: str | None = None
    modalities: tuple[str, ...] = ()
    composed: tuple[str, ...] = ()
    """What requests can be composed of its answers, such as `zero-shot.image`."""
    digest: str | None = None
    precision: str | None = None
    device: str | None = None
    reason: str | None = None
    """Why the last load failed."""
    refused_version: int | None = None
    """The newer version that was refused, where this one serves in its place."""
    resident: bool = False
    """Whether it is in memory."""
    memory_bytes: int | None = None
    """What it takes of `models.memory_bytes`, in memory or when it was there last."""
    phase: LoadPhase | None = None
    """Of the load that runs now."""
    loading_seconds: float | None = None
    """Time that the load has taken until now."""
    description: str = ""
    default_for: tuple[str, ...] = ()
    """The modalities for which a request of its task that names no model gets it."""
    aliases: Mapping[str, float] = field(default_factory=dict)
    """By alias that names this version, its share of the requests for the alias."""
    languages: tuple[str, str] | None = None
    """Source and target of a translator where a request names none."""
    source_languages: tuple[str, ...] = ()
    """What a translator can be asked to translate from."""
    target_languages: tuple[str, ...] = ()
    """What a translator can be asked to translate to."""
    labels: tuple[str, ...] = ()
    deviation: float | None = None
    """Largest deviation from the golden answers at load."""
    parity: Parity | None = None
    """All of that comparison."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """By session, the execution provider that computes it."""
    candidates: Sequence[Candidate] = ()
    """What could compute it, as measured at load; empty if there was nothing to choose."""
    load_seconds: float | None = None
    loaded_at: int | None = None
    """When it was loaded, in Unix seconds."""
    statistics: Mapping[str, Any] | None = None
    """By lane: pending, running, inference_count, execution_count, ceiling, curve."""

    @property
    def can_answer(self) -> bool:
        """Return whether it answers requests, now or after a load on demand."""
        return self.state in (ModelState.READY, ModelState.ON_DEMAND)


VersionKey: TypeAlias = tuple[str, int]
"""A model's name and a version."""


def unusable(reasons: Mapping[str, str], known: Iterable[str]) -> Sequence[VersionStatus]:
    """Return a status for each folder that cannot be a model, unless it has one already."""
    left = reasons.keys() - set(known)
    return [
        VersionStatus(name, None, ModelState.FAILED, reason=reasons[name]) for name in sorted(left)
    ]


def describe(loaded: Loaded) -> VersionStatus:
    """Return the status of a version that is ready."""
    files, pipeline = loaded.files, loaded.pipeline
    manifest = files.manifest
    composed = [one for one in pipeline.composed if isinstance(one[0], ComposedTask)]
    sources, targets = pipeline.family.traits.languages or ((), ())
    languages = [manifest.parameters.get(f"{side}_language") for side in ("source", "target")]
    return VersionStatus(
        model=files.model,
        version=files.version,
        state=ModelState.READY,
        resident=True,
        memory_bytes=loaded.memory_bytes,
        task=manifest.task,
        family=manifest.family,
        modalities=tuple(sorted(pipeline.modalities)),
        composed=tuple(sorted(map(".".join, composed))),
        digest=files.digest,
        precision=files.precision,
        device=loaded.device,
        description=manifest.description,
        languages=(str(languages[0]), str(languages[1])) if all(languages) else None,
        source_languages=tuple(sources),
        target_languages=tuple(targets),
        labels=tuple(manifest.parameters.get("labels", ())),
        deviation=loaded.parity.deviation if loaded.parity else None,
        parity=loaded.parity,
        providers=loaded.providers,
        candidates=loaded.choice.candidates if loaded.choice else (),
        load_seconds=round(loaded.seconds, 3),
        loaded_at=int(time.time()),
    )


def offered(
    model: str, version: int, manifest: Manifest, abilities: Iterable[Ability]
) -> VersionStatus:
    """Return the status of a version that its first request will load."""
    known = manifest.parameters
    languages = [known.get(f"{side}_language") for side in ("source", "target")]
    own = {modality for task, modality in abilities if task is manifest.task}
    return VersionStatus(
        model=model,
        version=version,
        state=ModelState.ON_DEMAND,
        task=manifest.task,
        family=manifest.family,
        modalities=tuple(sorted(own)),
        description=manifest.description,
        languages=(str(languages[0]), str(languages[1])) if all(languages) else None,
        labels=tuple(known.get("labels", ())),
    )


def with_statistics(status: VersionStatus, loaded: Loaded) -> VersionStatus:
    """Return a status with what its lanes are doing now and how they were measured."""
    lanes = {}
    for name, engine in loaded.pipeline.engines.items():
        curve, statistics = engine.curve, engine.statistics()._asdict()
        del statistics["rows_in_use"], statistics["most_pending"]  # metrics have them
        lanes[name] = {
            **statistics,
            "curve": [
                {
                    "length": length,
                    "favoured_batch": curve.best_batch_size(length),
                    "milliseconds": {
                        str(rows): round(1000 * curve.seconds(rows, length), 3)
                        for rows in (1, 2, 4, 8, 16, 32, 64)
                        if rows <= len(curve.table[0])
                    },
                }
                for length in curve.lengths
            ],
        }
    return replace(status, statistics=lanes)


def publish(status: VersionStatus) -> None:
    """Set the metrics that tell a version's state."""
    labels = (status.model, str(status.version))
    for state in ModelState:
        metrics.MODEL_STATE.labels(*labels, state.value).set(state is status.state)
    if status.state is not ModelState.READY:
        return
    metrics.MODEL_LOAD_SECONDS.labels(*labels).set(status.load_seconds or 0.0)
    if status.parity is not None:
        metrics.MODEL_GOLDEN_DEVIATION.labels(*labels).set(status.parity.deviation)
        metrics.MODEL_GOLDEN_FLIPS.labels(*labels).set(status.parity.flips)
        metrics.MODEL_BATCH_DEVIATION.labels(*labels).set(status.parity.batch_deviation)
    for one in status.candidates:
        if one.ratio is not None:
            what = (one.provider, one.precision, one.inference_precision, "+".join(one.sessions))
            metrics.MODEL_CANDIDATE_TIME.labels(*labels, *what, one.verdict).set(one.ratio)
    metrics.MODEL_FALLBACK.labels(*labels).set(status.refused_version is not None)
    metrics.MODEL_INFO.labels(*labels, *_identity(status)).set(1)


def publish_limits(loaded: Loaded, queue_limit: int) -> None:
    """Set the metrics that a version's measures are judged by."""
    files = loaded.files
    labels = (files.model, str(files.version))
    tolerance = files.tolerance if loaded.parity is None else loaded.parity.tolerance
    metrics.MODEL_GOLDEN_TOLERANCE.labels(*labels).set(tolerance)
    metrics.MODEL_QUEUE_LIMIT.labels(*labels).set(queue_limit)
    for lane, engine in loaded.pipeline.engines.items():
        best_size = engine.curve.best_batch_size(engine.curve.lengths[-1])
        metrics.MODEL_BATCH_LIMIT.labels(*labels, lane).set(best_size)


def publish_aliases(aliases: Aliases, model: str) -> None:
    """Set the metrics of a model's aliases."""
    metrics.MODEL_ALIAS_SHARE.remove_by_labels({"model": model})
    for version in aliases.versions(model):
        for alias, share in aliases.shares(model, version).items():
            metrics.MODEL_ALIAS_SHARE.labels(model, str(version), alias).set(share)


def retract(status: VersionStatus) -> None:
    """Remove the series of a version that is gone, so that reloads do not pile them up."""
    version = {"model": status.model, "version": str(status.version)}
    for metric in _DESCRIBED:
        metric.remove_by_labels(version)


def _identity(status: VersionStatus) -> tuple[str, ...]:
    return (
        str(status.task),
        str(status.family),
        str(status.precision),
        str(status.device),
        str(status.digest),
    )
