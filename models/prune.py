"""Prunes a transformers checkpoint, and writes one that `models.export` takes.

    python -m models.prune SOURCE --to DIR [--heads 0.25] [--width 0.5] [--weights 0.5]
                           [--data FILE --minutes 5]

SOURCE is a folder as `save_pretrained` writes it, or a model's name on a Hugging Face hub. Shares
are of what is taken away. With a data file (as `models.evaluate` takes it) importance is judged by
what the loss would change by, and the rest is fine-tuned; without, by the size of the weights.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from models.compress.heads import heads_left, prune_heads
from models.compress.importance import Scores, by_magnitude, by_taylor
from models.compress.learning import Course, Lesson, learn
from models.compress.lessons import Lessons, lessons_of, loss_of
from models.compress.magnitude import prune_weights, zeros_kept, zeros_of
from models.compress.structure import Stack, stacks_of
from models.compress.width import prune_width
from models.compress.writing import weights_of, write_checkpoint
from models.convert.checkpoint import Checkpoint, open_checkpoint
from models.convert.errors import CheckpointError
from models.convert.sources import fetch

_TOLD = 16
"""Batches whose loss is reported before and after."""


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.prune",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("source", help="folder of a checkpoint, or its name on a hub")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--heads", type=_share, default=0.0, help="share of attention heads to go")
    parser.add_argument("--width", type=_share, default=0.0, help="share of feed-forward neurons")
    parser.add_argument("--weights", type=_share, default=0.0, help="share of weights to be zero")
    parser.add_argument("--data", type=Path, help="data file to judge importance and fine-tune by")
    parser.add_argument("--minutes", type=float, default=5.0, help="of fine-tuning; 0 for none")
    parser.add_argument("--rate", type=float, default=3e-5, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    asked = parser.parse_args()
    if not (asked.heads or asked.width or asked.weights):
        parser.error("say what to prune: --heads, --width or --weights")
    return asked


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must be from 0 up to 1")
    return value


def main() -> int:
    """Prune from the command line; return the exit status."""
    asked = read_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    try:
        checkpoint = open_checkpoint(fetch(asked.source, asked.revision))
        before = weights_of(checkpoint.model)
        prune(checkpoint, asked)
        write_checkpoint(checkpoint.model, checkpoint, asked.to)
    except CheckpointError as error:
        tqdm.write(str(error), file=sys.stderr)
        return 1
    after = weights_of(checkpoint.model)
    tqdm.write(f"{before:,} weights before, {after:,} now ({after / before:.0%}), in {asked.to}")
    return 0


def prune(checkpoint: Checkpoint, asked: argparse.Namespace) -> None:
    """Prune a model in place, and fine-tune it where there is a data file.

    Raises:
        CheckpointError: its architecture cannot be pruned so, or the data are not for it.
    """
    model = checkpoint.model
    stacks = stacks_of(model)
    lessons = None if asked.data is None else lessons_of(checkpoint, asked.data, asked.batch)
    told = [] if lessons is None else list(islice(lessons.epoch(), _TOLD))
    _tell(checkpoint, told, "before")
    if asked.heads:
        gone = prune_heads(model, scored(checkpoint, stacks, lessons), asked.heads)
        tqdm.write(f"heads taken out by layer: {gone}; {heads_left(model)} left")
    if asked.width:
        # Scored again: what a neuron is worth depends on the heads that are left.
        widths = prune_width(model, stacks, scored(checkpoint, stacks, lessons), asked.width)
        tqdm.write(f"feed-forward widths left: {widths}")
    if asked.weights:
        prune_weights(stacks, asked.weights)
        tqdm.write(f"{zeros_of(stacks):.1%} of the layers' weights are zero")
    _tell(checkpoint, told, "pruned")
    if lessons is not None and asked.minutes:
        with zeros_kept(stacks):
            learn(model, loss_of(checkpoint), lessons.epoch, Course(asked.minutes, asked.rate))
        _tell(checkpoint, told, "fine-tuned")


def scored(checkpoint: Checkpoint, stacks: list[Stack], lessons: Lessons | None) -> list[Scores]:
    """Return how much each part matters: to the loss where there are lessons, else by size."""
    if lessons is None:
        return by_magnitude(checkpoint.model, stacks)
    return by_taylor(checkpoint.model, stacks, loss_of(checkpoint), lessons.epoch())


@torch.no_grad()
def _tell(checkpoint: Checkpoint, lessons: Sequence[Lesson], when: str) -> None:
    if lessons:
        losses = [float(loss_of(checkpoint)(one)) for one in lessons]
        tqdm.write(f"{when}: mean loss {sum(losses) / len(losses):.4f} on {len(losses)} batches")


if __name__ == "__main__":
    sys.exit(main())
