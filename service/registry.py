"""The models this process serves, and their states.

This file is being written; the names below are the contract the HTTP border relies on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.pipeline import Pipeline
from service.tasks import Task


class ModelState(StrEnum):
    """Where a version is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What an operator wants to know about one version of a model."""

    model: str
    version: int
    state: ModelState
    task: Task | None
    family: str | None
    modalities: tuple[str, ...]
    digest: str | None
    precision: str | None
    device: str | None
    reason: str | None
    """Why it failed."""
    description: str
    is_default: bool
    """Whether requests of its task and modality that name no model get it."""
    languages: tuple[str, str] | None
    labels: tuple[str, ...]
    deviation: float | None
    """Largest deviation from the golden answers at load."""
    statistics: Mapping[str, Any]
    """Per lane: pending, running, inference_count, execution_count, curve, ..."""


class Registry:
    """Models by name and version."""

    def find(
        self, task: Task, modality: str, model: str | None, version: int | None
    ) -> Pipeline[Any, Any]:
        """Return the pipeline for a request.

        Raises:
            ModelNotFoundError: nothing of this name, version, task and modality.
            ModelNotReadyError: it exists, but is loading, draining or failed.
        """
        raise KeyError

    def statuses(self) -> Sequence[VersionStatus]:
        """Return every known version, by name and version."""
        raise KeyError

    def status(self, model: str) -> Sequence[VersionStatus]:
        """Return the known versions of one model. Raises ModelNotFoundError."""
        raise KeyError

    def not_ready(self) -> Mapping[str, str]:
        """Return the wanted models that cannot answer, and why; empty when ready."""
        raise KeyError

    async def load(
        self, model: str, version: int | None = None, precision: str | None = None
    ) -> VersionStatus:
        """Load a version (the newest by default) and swap it in; the old one drains.

        Raises:
            ModelNotFoundError: not in the repository.
            ModelLoadError: it could not be loaded or failed its checks; the old one serves on.
            ConflictError: a load of this model is already running.
        """
        raise KeyError

    async def unload(self, model: str) -> None:
        """Drain and close a model. Raises ModelNotFoundError."""
        raise KeyError
