"""What the operator wants served, and which versions on disk could serve it."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import ModelNotFoundError, ModelNotReadyError, ModelRequiredError, ServiceError
from service.registry.aliases import Aliases
from service.registry.loader import Loaded
from service.registry.progress import EnterPhase
from service.repository.listing import ListsModels
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles
from service.tasks import Ability, ComposedTask, Task
from service.telemetry import metrics

_PHRASES: Mapping[Task | ComposedTask, str] = {
    Task.SPARSE: "make sparse vectors of {}s",
    ComposedTask.ZERO_SHOT: "classify {}s by given labels",
    ComposedTask.RERANK: "rerank {}s",
}


def phrase(ability: Ability) -> str:
    """Return an ability in words, for messages: "embed images"."""
    task, modality = ability
    return _PHRASES.get(task, f"{task} {{}}s").format(modality)


class Readiness:
    """The wanted models that cannot answer: those to load at start, and the configured defaults."""

    def __init__(self, defaults: Collection[str]) -> None:
        self._defaults = frozenset(defaults)
        self.reasons: dict[str, str] = {}

    def want(self, models: Iterable[str], on_demand: Collection[str] = ()) -> None:
        """Note what is to be loaded at start, and what its requests load."""
        missing = "it is a default, but not among the models to load"
        self.reasons = dict.fromkeys(sorted(self._defaults - set(on_demand)), missing)
        self.reasons |= dict.fromkeys(models, "not loaded yet")
        for model in self.reasons:
            metrics.MODEL_READY.labels(model).set(0)

    def note_failed(self, model: str, reason: str) -> None:
        """Note why a load failed; a model that serves, or is not wanted, stays as it is."""
        if model in self.reasons:
            self.reasons[model] = reason

    def note_serving(self, model: str) -> None:
        """Note that a model answers."""
        self.reasons.pop(model, None)
        metrics.MODEL_READY.labels(model).set(1)

    def note_unloaded(self, model: str) -> None:
        """Note that a model was unloaded: it is not wanted any more, unless it is a default."""
        if model in self._defaults:
            self.reasons[model] = "it is a default, but was unloaded"
            metrics.MODEL_READY.labels(model).set(0)
        else:
            self.reasons.pop(model, None)
            metrics.MODEL_READY.remove_by_labels({"model": model})


class Defaults:
    """The default model of each task and modality.

    It is the model that the operator set. Else it is the only wanted model of the repository that
    has the ability; where several have it there is none, and a request must name its model. An
    ability that no wanted model has goes to the first model loaded later that has it. A default
    stays when its model fails or is unloaded, and when other models are loaded.
    """

    def __init__(self, configured: Mapping[str, str] | None) -> None:
        self.configured: Mapping[Ability, str] = {
            (_task_named(task), modality): name
            for key, name in (configured or {}).items()
            for task, _, modality in [key.partition(".")]
        }
        self.models: dict[Ability, str] = dict(self.configured)
        """The default models by ability; they may not be loaded."""
        self._candidates: dict[Ability, list[str]] = {}
        self._is_decided = False
        self._early: list[tuple[str, frozenset[Ability]]] = []

    def decide(self, wanted: Mapping[str, Iterable[Ability]]) -> None:
        """Choose among the wanted models, given what each can do. Call once."""
        for model, abilities in sorted(wanted.items()):
            for ability in abilities:
                self._candidates.setdefault(ability, []).append(model)
        for ability, models in self._candidates.items():
            if len(models) == 1:
                self.models.setdefault(ability, models[0])
        self._is_decided = True
        for early in self._early:
            self.note(*early)
        self._early.clear()

    def note(self, model: str, abilities: Iterable[Ability]) -> None:
        """Note that a model was loaded: it becomes the default of what no other model could do."""
        if not self._is_decided:
            self._early.append((model, frozenset(abilities)))
            return
        for ability in abilities:
            if ability not in self._candidates:
                self.models.setdefault(ability, model)

    def of(self, model: str) -> list[Ability]:
        """Return the abilities for which a model is the default."""
        return sorted(ability for ability, name in self.models.items() if name == model)

    def absent(self, ability: Ability) -> ServiceError:
        """Return why there is no default model for an ability.

        ModelRequiredError if several models could answer, ModelNotReadyError while the models of
        the repository are being read, else ModelNotFoundError.
        """
        if not self._is_decided:
            return ModelNotReadyError(f"no model is ready yet to {phrase(ability)}")
        if models := self._candidates.get(ability):
            return ModelRequiredError(
                f"several models {phrase(ability)}: name {' or '.join(models)} as the model"
            )
        return ModelNotFoundError(f"no model here can {phrase(ability)}")


def _task_named(name: str) -> Task | ComposedTask:
    return ComposedTask(name) if name in set(ComposedTask) else Task(name)


def default_not_ready(model: str, ability: Ability, reason: str) -> ModelNotReadyError:
    """Return why a request that names no model is refused; other models do not replace it."""
    return ModelNotReadyError(
        f"model {model!r}, the default to {phrase(ability)}, is not ready: {reason}"
    )


_log = logging.getLogger(__name__)


class Repository(ListsModels, Protocol):
    """What the registry needs of `service.repository.repository`."""

    def versions(self, model: str) -> Sequence[int]:
        """Return a model's versions, ascending. Raises ModelNotFoundError, ModelLoadError."""
        ...

    def describe(self, model: str, version: int) -> Manifest:
        """Return a version's manifest. Raises ModelNotFoundError, ModelLoadError."""
        ...

    def open(
        self, model: str, version: int | None, precision: str | None, device_kind: str
    ) -> VersionFiles:
        """Return a version's files. Raises ModelNotFoundError, ModelLoadError."""
        ...


class VersionLoader(Protocol):
    """What the registry needs of `service.registry.loader`."""

    def abilities(self, manifest: Manifest) -> frozenset[Ability]:
        """Return what a model can do, by its manifest; nothing for an unknown family."""
        ...

    async def load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        """Return a version that answers; report each phase. Raises ModelLoadError."""
        ...

    def memory_of(self, files: VersionFiles) -> int | None:
        """Return the bytes that an earlier load measured. Reads files."""
        ...


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What the operator wants served."""

    device_kind: str
    models: Sequence[str] | None = None
    """Names to load at start; None means all of the repository."""
    versions: Mapping[str, int] | None = None
    """Versions that are loaded where none is named, whatever newer ones there are."""
    precision: str | None = None
    defaults: Mapping[str, str] | None = None
    """"task.modality", e.g. "classify.text", to a model's name."""
    aliases: Aliases | None = None
    """Of the models, at start."""
    drain_seconds: float = 30.0
    max_queue_size: int | None = None
    """The queue limit that replaces the manifests'; used for the metrics only."""
    parallel_loads: int = 1
    """Models that are loaded at the same time at start."""
    processes: int = 1
    """That share the manifests' queue limits."""
    memory_bytes: int = 0
    """What the loaded versions may take; 0 sets no limit. Else models are loaded on demand."""
    resident: Sequence[str] = ()
    """Models that are loaded at start and never evicted, whatever others need."""

    def queue_limit(self, manifest: Manifest) -> int:
        """Return the queue limit of a model in this process."""
        return self.max_queue_size or -(-manifest.batching.max_queue_size // self.processes)

    def pinned(self, model: str) -> int | None:
        """Return the only version of a model to load where none is named; None for the newest."""
        return (self.versions or {}).get(model)


def candidates(
    repository: Repository, options: RegistryOptions, model: str, serving: int | None
) -> Sequence[int]:
    """Return the versions to try where none is named, the newest first. Reads the disk.

    A version that serves is not replaced by an older one because a newer one is broken.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelLoadError: its folder holds no version.
    """
    if (pinned := options.pinned(model)) is not None:
        return [pinned]
    numbers = sorted(repository.versions(model), reverse=True)
    return [n for n in numbers if serving is None or n > serving] or numbers[:1]


def manifests_on_disk(
    repository: Repository, options: RegistryOptions, models: Iterable[str]
) -> Mapping[str, tuple[int, Manifest]]:
    """Return the newest version of each model whose manifest can be read, and the manifest."""
    found = {model: _newest(repository, options, model) for model in models}
    return {model: newest for model, newest in found.items() if newest is not None}


def _newest(
    repository: Repository, options: RegistryOptions, model: str
) -> tuple[int, Manifest] | None:
    try:
        numbers = candidates(repository, options, model, None)
    except ServiceError:
        return None
    for number in numbers:
        try:
            return number, repository.describe(model, number)
        except Exception as error:  # whatever it is: its load will fail of it, and say so
            facts = {"model": model, "version": number, "reason": str(error)}
            _log.debug("manifest not read", extra=facts)
    return None
