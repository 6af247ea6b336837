"""What the registry must know to open a model of a family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from service.tasks import Task
from service.types import Family, Item_contra, Work

ParametersT = TypeVar("ParametersT")


@runtime_checkable
class PreprocessesTogether(Protocol[Item_contra]):
    """A family that preprocesses several light items in less time than one after the other."""

    def preprocess_all(self, items: Sequence[Item_contra]) -> Sequence[Work | Exception]:
        """Return, for each item, what `preprocess` returns or raises."""
        ...


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
