"""What in-flight batching asks of a model: rows that works join and leave between two steps."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from service.types import Sessions, Tensors, Work

Key: TypeAlias = Hashable
"""How a work is called; any, as a mapping takes no narrower key than its type says."""


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

    def begin(self, sessions: Sessions, works: Mapping[Any, Work]) -> None:
        """Take works in, right before their first step; all, or none and raise ServiceError."""
        ...

    def step(self, sessions: Sessions) -> Mapping[Any, Tensors]:
        """Bring every work one step further; return the results of those who are done by it.

        Raises:
            ServiceError: the step failed. `reset` before anything else.
        """
        ...

    def drop(self, keys: frozenset[Any]) -> None:
        """Forget works; they cost nothing from the next step on."""
        ...

    def reset(self) -> None:
        """Forget all works, and give memory back."""
        ...

    def progress(self, keys: frozenset[Any]) -> Mapping[Any, Tensors]:
        """Return what these works would result in if they ended here."""
        ...


@runtime_checkable
class InFlight(Protocol):
    """What a family has that can be batched in flight."""

    def open_rows(self) -> Rows:
        """Return rows with nobody in them."""
        ...

    def rows_for(self, work: Work) -> int:
        """Return how many rows a work may come to take."""
        ...
