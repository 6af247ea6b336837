"""What the programs of all peers share: their arguments, and how a worker answers."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.in_process import Item, TextOrImage, open_text_or_image

WAIT_SECONDS = 0.002
"""How long a peer's batch waits for more items."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line of a peer: FOLDER PORT ROUTE WORKERS BATCH."""

    folder: Path
    port: int
    route: str
    workers: int
    """Processes that hold the model, each with one thread."""
    batch: int
    """Most items of a batch."""

    @classmethod
    def of_this_process(cls) -> Self:
        """Read the command line, which processes that a peer spawns see as well."""
        folder, port, route, workers, batch = sys.argv[1:6]
        return cls(Path(folder), int(port), route, int(workers), int(batch))

    @property
    def is_image(self) -> bool:
        """Tell whether requests are image files."""
        return self.route == "/v1/detect"

    @property
    def wait_seconds(self) -> float:
        """Return how long a batch waits; batches of one do not."""
        return WAIT_SECONDS if self.batch > 1 else 0.0

    def open_model(self) -> TextOrImage:
        """Open the model with one thread."""
        return open_text_or_image(self.folder, threads=1)


def answers(
    model: TextOrImage, items: Item | Sequence[Item]
) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
    """Answer an item, or a list of them: peers pass lists where batches may be larger than one."""
    return model.answers(items) if isinstance(items, list) else model.answers([items])[0]  # type: ignore[list-item]
