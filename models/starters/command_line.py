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
    resume: bool = False
    """Whether to go on from the weights in `out`, on the recipes that can."""


def read_training_request(
    description: str | None, minutes: float, *, resumable: bool = False
) -> TrainingRequest:
    """Read the command line; seed torch and set its threads.

    Args:
        description: what the recipe says about itself.
        minutes: the default of `--minutes`.
        resumable: whether `--resume` is offered.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=minutes, help="training time")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    if resumable:
        parser.add_argument("--resume", action="store_true", help="go on from the weights in OUT")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    resume = resumable and arguments.resume
    return TrainingRequest(arguments.data, arguments.out, arguments.minutes, resume)
