"""A smaller model as a checkpoint that `models.export` takes."""

from pathlib import Path
from typing import Any

from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.convert.graphs import copy_beside
from models.graphs.quiet import quiet


def write_checkpoint(model: Any, source: Checkpoint, to: Path) -> None:
    """Write weights and configuration, with the tokenizer and processor files of the source.

    Raises:
        CheckpointError: it would be written over its source.
    """
    if to.exists() and to.samefile(source.folder):
        raise CheckpointError(f"{to} is the source itself: choose another folder")
    to.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(to)
    copy_beside(source, to)


def weights_of(model: Any) -> int:
    """Return how many weights a model has."""
    return sum(parameter.numel() for parameter in model.parameters())
