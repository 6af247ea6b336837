"""What the registry must know to open a model of a family."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from service.tasks import Task
from service.transforms.language.segmentation import Document
from service.types import AnswerT, Family, Item_contra, ItemT, PreparedItem, Sessions, TensorSpec

ParametersT = TypeVar("ParametersT")


@runtime_checkable
class PreprocessesTogether(Protocol[Item_contra]):
    """A family that preprocesses several light items in less time than one after the other."""

    def preprocess_all(self, items: Sequence[Item_contra]) -> Sequence[PreparedItem | Exception]:
        """Return, for each item, what `preprocess` returns or raises."""
        ...


@runtime_checkable
class SplitsTexts(Protocol[Item_contra]):
    """A family whose answers to the pieces of a text make an answer to it: a translator."""

    def split(self, item: Item_contra, in_sentences: bool) -> Document | None:
        """Return the item's text in pieces that the model reads whole; None if it is one piece.

        It is one if it is a single line that fits, unless sentences are wanted.

        Raises:
            InvalidInputError: nothing in the text can be translated, or not between the item's
                languages.
        """
        ...


@runtime_checkable
class KnowsLanguages(Protocol):
    """A family of translators."""

    @property
    def languages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the languages that it translates from, and those that it translates to."""
        ...


@runtime_checkable
class ChoosesLanes(Protocol[Item_contra]):
    """A family of several lanes: an item tells which of them it is for."""

    def lane_of(self, item: Item_contra) -> str:
        """Return the lane of the work that `preprocess` makes of this item."""
        ...


@runtime_checkable
class KnowsItsHead(Protocol):
    """A family that can tell by a graph's header whether its head has as many scores as labels."""

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Return why outputs, by session and name, are not this family's; None if they may be."""
        ...


@runtime_checkable
class TriesItsHead(Protocol):
    """A family that can tell by what a graph gives for made-up images whether its head is right."""

    def tried(self, sessions: Sessions) -> str | None:
        """Return why the head cannot be the graph's; None if it may be."""
        ...


@runtime_checkable
class RunsParts(Protocol):
    """A family whose lanes need a part of a graph each, where others compute all of it."""

    @property
    def parts(self) -> Mapping[str, Mapping[str, str]]:
        """Return, by graph, the output that each session wants of it, by the session's name.

        The family gets either these sessions or, where the graph cannot be taken apart, its own.
        """
        ...


@runtime_checkable
class TriesAgain(Protocol[ItemT, AnswerT]):
    """A family that may ask its model more than once for one item."""

    def plan(self, item: ItemT) -> Generator[ItemT, AnswerT, AnswerT] | None:
        """Return what yields items to ask, is sent their answers, and returns the item's own.

        None if the item is asked as it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class FamilyEntry(Generic[ParametersT]):
    """One row of the table of families."""

    task: Task
    parameters: type[ParametersT]
    """A dataclass: its fields are the keys of the manifest's `[parameters]`."""
    open: Callable[[Path, ParametersT], Family[Any, Any]]
    modalities: frozenset[str]
    """What every model of the family takes, known before one is opened."""
    """Reads what the family needs beside its graphs (tokenizers) from a version's folder.

    Raises:
        ModelLoadError: a file is missing or broken.
    """
