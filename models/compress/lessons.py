"""Lessons of a data file for a transformers checkpoint, by its own tokenizer or processor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pixels
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoTokenizer

from models.compress.learning import Lesson
from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.datasets.files import batches_by_length
from models.evaluate.errors import EvaluationError
from models.evaluate.rows import Labelled, labelled, read_rows, translated
from models.graphs.quiet import quiet
from service.tasks import Image, Text

_LONGEST = 256
"""Tokens of a text that are learnt from: longer ones would take most of the time."""
_IGNORED = -100


@dataclass(slots=True)
class Lessons:
    """What a checkpoint can learn of a data file; an epoch is in another order each time."""

    size: int
    batch: int
    lengths: Sequence[int]
    made: Callable[[Sequence[int]], Lesson]
    """Makes a lesson of the rows with these numbers."""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def epoch(self) -> Iterator[Lesson]:
        """Yield every row once, in batches of similar length."""
        for chosen in batches_by_length(self.lengths, self.batch, self.random):
            yield self.made(chosen.tolist())


def lessons_of(
    checkpoint: Checkpoint, path: Path, batch: int = 32, *, labels: bool = True
) -> Lessons:
    """Read a data file as `models.evaluate` does, for a classifier or a translator.

    Args:
        checkpoint: what reads the rows.
        path: of the file.
        batch: rows of a lesson.
        labels: whether a classifier's rows need them; lessons without have None.

    Raises:
        CheckpointError: the file cannot be read, names labels the model does not know, or the
            model is of another kind.
    """
    try:
        rows = read_rows(path)
        if checkpoint.is_translator:
            pairs = [(one.item.text, one.references[0]) for one in translated(rows)]
            lengths = [len(text) for text, _ in pairs]
            return Lessons(len(rows), batch, lengths, _translations(checkpoint, pairs))
        if getattr(checkpoint.model, "num_labels", 0) and _classifies(checkpoint):
            known = labelled(rows, needed=labels)
            sizes = [_length(one) for one in known]
            return Lessons(len(rows), batch, sizes, _classes(checkpoint, known))
    except EvaluationError as error:
        raise CheckpointError(str(error)) from None
    kind = type(checkpoint.model).__name__
    raise CheckpointError(
        f"{kind} learns from no data file: it is neither classifier nor translator"
    )


def loss_of(checkpoint: Checkpoint) -> Callable[[Lesson], Tensor]:
    """Return what computes the loss of a lesson against its labels."""

    def of_classes(lesson: Lesson) -> Tensor:
        logits, labels = checkpoint.model(**lesson.inputs).logits, lesson.labels
        if labels is not None and labels.is_floating_point():
            return functional.binary_cross_entropy_with_logits(logits, labels)
        return functional.cross_entropy(logits, labels)

    def of_translations(lesson: Lesson) -> Tensor:
        return checkpoint.model(**lesson.inputs, labels=lesson.labels).loss

    return of_translations if checkpoint.is_translator else of_classes


def _classifies(checkpoint: Checkpoint) -> bool:
    name = type(checkpoint.model).__name__
    return name.endswith(("ForSequenceClassification", "ForImageClassification"))


def _length(row: Labelled) -> int:
    content = row.item.content
    return len(content.text) if isinstance(content, Text) else 0


def _classes(checkpoint: Checkpoint, rows: Sequence[Labelled]) -> Callable[[Sequence[int]], Lesson]:
    numbers = {str(name): int(at) for at, name in checkpoint.model.config.id2label.items()}
    for one in rows:
        if strange := sorted(set(one.labels) - numbers.keys()):
            raise CheckpointError(f"{one.row.where}: {strange[0]!r} is no label of the model")
    several = any("labels" in one.row.values for one in rows)
    bare = not several and any(not one.labels for one in rows)
    read = _reader(checkpoint, rows)

    def made(chosen: Sequence[int]) -> Lesson:
        some = [[numbers[label] for label in rows[at].labels] for at in chosen]
        if bare:
            return Lesson(read(chosen))
        if not several:
            return Lesson(read(chosen), torch.tensor([one[0] for one in some]))
        table = torch.zeros(len(chosen), len(numbers))
        for row, own in zip(table, some, strict=True):
            row[own] = 1
        return Lesson(read(chosen), table)

    return made


def _reader(
    checkpoint: Checkpoint, rows: Sequence[Labelled]
) -> Callable[[Sequence[int]], dict[str, Tensor]]:
    if any(isinstance(one.item.content, Image) for one in rows):
        processor = _opened(AutoImageProcessor, checkpoint)

        def of_images(chosen: Sequence[int]) -> dict[str, Tensor]:
            files = [rows[at].item.content for at in chosen]
            images = [
                Pixels.open(BytesIO(one.data)).convert("RGB")
                for one in files
                if isinstance(one, Image)
            ]
            return {"pixel_values": processor(images, return_tensors="pt")["pixel_values"]}

        return of_images
    words = _opened(AutoTokenizer, checkpoint)

    def of_texts(chosen: Sequence[int]) -> dict[str, Tensor]:
        texts = [one.text for at in chosen if isinstance(one := rows[at].item.content, Text)]
        pairs = [rows[at].item.text_pair or "" for at in chosen]
        return _padded(checkpoint, words, texts, text_pair=pairs if any(pairs) else None)

    return of_texts


def _translations(
    checkpoint: Checkpoint, pairs: Sequence[tuple[str, str]]
) -> Callable[[Sequence[int]], Lesson]:
    words = _opened(AutoTokenizer, checkpoint)

    def made(chosen: Sequence[int]) -> Lesson:
        texts, references = zip(*(pairs[at] for at in chosen), strict=True)
        inputs = _padded(checkpoint, words, list(texts), text_target=list(references))
        labels = inputs.pop("labels")
        return Lesson(inputs, labels.masked_fill(labels == words.pad_token_id, _IGNORED))

    return made


def _padded(checkpoint: Checkpoint, words: Any, texts: list[str], **more: Any) -> dict[str, Tensor]:
    longest = min(_LONGEST, words.model_max_length)
    read = words(
        texts, padding=True, truncation=True, max_length=longest, return_tensors="pt", **more
    )
    wanted = {*signature(checkpoint.model.forward).parameters, "labels"}
    return {name: value for name, value in read.items() if name in wanted}


def _opened(kind: Any, checkpoint: Checkpoint) -> Any:
    try:
        with quiet():
            return kind.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"what reads its inputs cannot be opened: {reason}") from None
