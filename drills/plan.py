"""How long a drill lasts, and from which seed its inputs are drawn."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

_LONG_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asks for."""

    seconds: float
    """How long the service is mistreated; starting and stopping it is not counted."""
    seed: int
    folder: Path
    """Where logs and examples are written."""

    @property
    def is_short(self) -> bool:
        """Return whether the drill should use few and small inputs."""
        return self.seconds < _LONG_SECONDS

    def draw(self, purpose: str) -> random.Random:
        """Return the random numbers of one part of a drill; the same for the same seed."""
        return random.Random(f"{self.seed} {purpose}")

    def deadline(self, share: float = 1.0) -> float:
        """Return the monotonic time at which a share of the seconds is over."""
        return time.monotonic() + self.seconds * share
