"""The names in the repository, remembered: a request for an unknown model reads no disk."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.errors import ServiceError
from service.repository.workflows import Workflow

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 5.0
"""A listing younger than this is not read again."""

_REST = 10
"""After a reading that took t seconds, the next one waits at least this many times t."""


class Contents(Protocol):
    """What one reading of the repository found."""

    @property
    def models(self) -> Sequence[str]:
        """Return the models that have at least one version, by name."""
        ...

    @property
    def unusable(self) -> Mapping[str, str]:
        """Return why, for each folder that cannot be a model."""
        ...

    @property
    def workflows(self) -> Mapping[str, Workflow | str]:
        """Return each workflow by name, or why it is none."""
        ...


class ListsModels(Protocol):
    """What the listing needs of a repository."""

    def contents(self) -> Contents:
        """Read the repository. Raises ModelLoadError if its folder cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class ListedWorkflow:
    """A workflow as it was last read without an error, and what is wrong with its file now."""

    workflow: Workflow | None
    reason: str | None


class Listing:
    """The last reading of the repository. Asking for it never waits for the disk.

    When it is asked for and is no longer fresh, one thread reads the repository again; the answer
    is that of the reading before. If the repository cannot be read, the last reading stays.
    """

    def __init__(self, repository: ListsModels) -> None:
        self._repository = repository
        self._models: frozenset[str] = frozenset()
        self._unusable: Mapping[str, str] = {}
        self._workflows: Mapping[str, ListedWorkflow] = {}
        self._next_reading = 0.0
        self._reading: asyncio.Task[None] | None = None

    def read(self) -> Sequence[str]:
        """Read the repository on this thread and return its models, by name.

        Raises:
            ModelLoadError: the repository's folder cannot be read.
        """
        return self._keep(self._repository.contents())

    def knows(self, model: str) -> bool:
        """Tell whether the repository has a model of this name that may be loaded."""
        self._read_soon()
        return model in self._models

    def unusable(self) -> Mapping[str, str]:
        """Return why, for each folder that cannot be a model."""
        self._read_soon()
        return self._unusable

    def workflows(self) -> "Mapping[str, ListedWorkflow]":
        """Return the workflows by name."""
        self._read_soon()
        return self._workflows

    async def stop(self) -> None:
        """Forget the reading that runs, if one does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def _keep(self, contents: Contents) -> Sequence[str]:
        self._models, self._unusable = frozenset(contents.models), contents.unusable
        self._workflows = {
            name: self._listed(name, found) for name, found in contents.workflows.items()
        }
        return contents.models

    def _listed(self, name: str, found: Workflow | str) -> "ListedWorkflow":
        if isinstance(found, Workflow):
            return ListedWorkflow(found, None)
        before = self._workflows.get(name)
        if before is None or before.reason != found:
            _log.warning("workflow not read", extra={"workflow": name, "reason": found})
        return ListedWorkflow(None if before is None else before.workflow, found)

    def _read_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._reading is None and loop.time() >= self._next_reading:
            self._reading = loop.create_task(self._read_on_thread())

    async def _read_on_thread(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._keep(await asyncio.to_thread(self._repository.contents))
        except ServiceError as error:
            _log.warning("repository unreadable", extra={"reason": str(error)})
        finally:
            took = loop.time() - began
            self._next_reading = loop.time() + max(_FRESH_SECONDS, _REST * took)
            self._reading = None
