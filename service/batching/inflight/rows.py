"""What in-flight batching asks of a model: rows that works join and leave between two steps."""

from collections.abc import Hashable, Mapping
from typing import Protocol, TypeAlias

from service.types import Sessions, Tensors, Work

Key: TypeAlias = Hashable


class Rows(Protocol):
    """The works in progress on one instance. One thread at a time."""

    @property
    def count(self) -> int:
        """Return how many works are in progress."""
        ...

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes."""
        ...

    def begin(self, sessions: Sessions, works: Mapping[Key, Work]) -> None:
        """Take works in, right before their first step. Raises ServiceError, and then takes none."""
        ...

    def step(self, sessions: Sessions) -> Mapping[Key, Tensors]:
        """Bring every work one step further; return the results of those who are done by it.

        Raises:
            ServiceError: the step failed. `reset` before anything else.
        """
        ...

    def drop(self, keys: frozenset[Key]) -> None:
        """Forget works; they cost nothing from the next step on."""
        ...

    def reset(self) -> None:
        """Forget all works, and give memory back."""
        ...

    def progress(self, keys: frozenset[Key]) -> Mapping[Key, Tensors]:
        """Return what these works would result in if they ended here."""
        ...


class InFlight(Protocol):
    """What a family has that can be batched in flight."""

    def open_rows(self) -> Rows:
        """Return rows with nobody in them."""
        ...

    def rows_for(self, work: Work) -> int:
        """Return how many rows a work may come to take."""
        ...
