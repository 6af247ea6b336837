"""Inputs to compare and to calibrate with: texts and images, read by the checkpoint's files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, UnidentifiedImageError
from transformers import AutoImageProcessor, AutoTokenizer

from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.graphs.quiet import quiet

Feeds = Mapping[str, NDArray[Any]]

TEXTS = (
    "A short one.",
    "The committee met on Tuesday and agreed, after a long debate, to try again next year.",
    "今天天气很好，我们去公园散步吧。",
    "Prices rose 3.5 % 📈 while demand fell; nobody could say why, and few tried.",
)
_SIZES = ((320, 240), (200, 280), (256, 256))
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_LONGEST = 128
"""Tokens: enough to tell graphs apart, and quick."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Texts and images to be fed."""

    texts: Sequence[str] = TEXTS
    images: Sequence[Image.Image] = ()
    pairs: Sequence[tuple[str, str]] = ()
    """Two texts each, for classifiers of how they are related; only goldens are made of them."""


def drawn_images() -> Sequence[Image.Image]:
    """Return pictures of smooth noise, always the same: all colours and most frequencies."""
    random = np.random.default_rng(7)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).filter(
            ImageFilter.GaussianBlur(radius)
        )
        for radius, (width, height) in enumerate(_SIZES, 1)
    ]


SAMPLES = Contents(TEXTS, drawn_images())


def read_contents(path: Path) -> Contents:
    """Read calibration data or items of goldens: one text a line, or a folder of images.

    A line of two texts with a tab between them is a pair.

    Raises:
        CheckpointError: it cannot be read, or holds nothing.
    """
    try:
        if path.is_dir():
            images = [Image.open(file).convert("RGB") for file in sorted(path.iterdir())]
            contents = Contents((), images)
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            texts = [line for line in lines if line.strip() and "\t" not in line]
            contents = Contents(texts, pairs=[_pair(line) for line in lines if "\t" in line])
    except (OSError, UnicodeDecodeError, UnidentifiedImageError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from None
    if not (contents.texts or contents.images or contents.pairs):
        raise CheckpointError(f"{path.name} holds neither texts nor images")
    return contents


def _pair(line: str) -> tuple[str, str]:
    one, _, other = line.partition("\t")
    return one, other


def feeds_of(checkpoint: Checkpoint, names: Collection[str], contents: Contents) -> Feeds:
    """Return one batch of everything in the contents, for the inputs named.

    Raises:
        CheckpointError: an input is neither of a text nor of an image, or what reads it or
            what it would be read from is not there.
    """
    feeds: dict[str, NDArray[Any]] = {}
    if "input_ids" in names:
        if not contents.texts:
            raise CheckpointError("the model reads texts, and there are none to feed it")
        feeds |= _text_feeds(checkpoint, contents.texts)
    if "pixel_values" in names:
        if not contents.images:
            raise CheckpointError("the model looks at images, and there are none to feed it")
        feeds |= _image_feeds(checkpoint, contents.images)
    if unknown := sorted(set(names) - set(feeds)):
        raise CheckpointError(f"it is not known what to feed to {', '.join(unknown)}")
    return {name: feeds[name] for name in names}


def _text_feeds(checkpoint: Checkpoint, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    with quiet():
        tokenizer = _opened(AutoTokenizer, checkpoint, "tokenizer")
        longest = min(_LONGEST, tokenizer.model_max_length)
        padding = "max_length" if checkpoint.model.config.model_type == "siglip" else True
        read = tokenizer(
            list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="np"
        )
    feeds = {name: read[name].astype(np.int64) for name in _TEXT_INPUTS if name in read}
    ids = feeds["input_ids"]
    return {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids), **feeds}


def _image_feeds(checkpoint: Checkpoint, images: Sequence[Image.Image]) -> dict[str, NDArray[Any]]:
    with quiet():
        processor = _opened(AutoImageProcessor, checkpoint, "image processor")
        # Of one size, so that processors that keep the shape make a batch of them.
        alike = [image.resize(images[0].size) for image in images]
        return {"pixel_values": np.asarray(processor(alike, return_tensors="np")["pixel_values"])}


def _opened(kind: Any, checkpoint: Checkpoint, called: str) -> Any:
    try:
        return kind.from_pretrained(checkpoint.folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"its {called} cannot be opened: {reason}") from None
