"""What the registry must know to open a model of a family."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.tasks import Task
from service.types import Family

ParametersT = TypeVar("ParametersT")


@dataclass(frozen=True, slots=True)
class FamilyEntry(Generic[ParametersT]):
    """One row of the table of families."""

    task: Task
    parameters: type[ParametersT]
    """A dataclass: its fields are the keys of the manifest's `[parameters]`."""
    open: Callable[[Path, ParametersT], Family[Any, Any]]
    """Reads what the family needs beside its graphs (tokenizers) from a version's folder.

    Raises:
        ModelLoadError: a file is missing or broken.
    """
