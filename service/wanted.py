"""What the operator wants served, and which versions on disk could serve it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.defaults import Ability
from service.errors import ServiceError
from service.listing import ListsModels
from service.loader import Loaded
from service.progress import EnterPhase
from service.repository.manifest import Manifest
from service.repository.repository import VersionFiles

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
    """What the registry needs of `service.loader`."""

    def modalities(self, family: str) -> frozenset[str]:
        """Return what the models of a family take; nothing for a family that does not exist."""
        ...

    async def load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        """Return a version that answers; report each phase. Raises ModelLoadError."""
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
    drain_seconds: float = 30.0
    max_queue_size: int | None = None
    """The queue limit that replaces the manifests'; used for the metrics only."""

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


def abilities_on_disk(
    repository: Repository, loader: VersionLoader, options: RegistryOptions, models: Iterable[str]
) -> Mapping[str, frozenset[Ability]]:
    """Return what each model can do, by the newest of its manifests that can be read."""
    return {model: _abilities(repository, loader, options, model) for model in models}


def _abilities(
    repository: Repository, loader: VersionLoader, options: RegistryOptions, model: str
) -> frozenset[Ability]:
    try:
        numbers = candidates(repository, options, model, None)
    except ServiceError:
        return frozenset()
    for number in numbers:
        try:
            manifest = repository.describe(model, number)
        except Exception as error:  # whatever it is: its load will fail of it, and say so
            facts = {"model": model, "version": number, "reason": str(error)}
            _log.debug("manifest not read", extra=facts)
            continue
        taken = loader.modalities(manifest.family)
        return frozenset((manifest.task, modality) for modality in taken)
    return frozenset()
