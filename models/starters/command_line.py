"""What a training recipe is asked on the command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Where the data sets are, where the checkpoint goes, and how long to train."""

    data: Path
    out: Path
    minutes: float
    start: Path | None = None
    """A served version to start from, in the recipes that can."""


def read_training_request(
    description: str | None, minutes: float, *, startable: bool = False
) -> TrainingRequest:
    """Read the command line; seed torch and set its threads.

    Args:
        description: what the recipe says about itself.
        minutes: the default of `--minutes`.
        startable: whether `--start` is offered.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=minutes, help="training time")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    if startable:
        parser.add_argument("--start", type=Path, help="folder of a version to start from")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    return TrainingRequest(
        arguments.data,
        arguments.out,
        arguments.minutes,
        arguments.start if startable else None,
    )
