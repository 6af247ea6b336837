"""How texts and images get into a graph; what the families that take them have in common."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service import tasks
from service.families.feeding import fitted
from service.repository.paths import file_inside
from service.transforms.image import decode_image, to_tensor
from service.transforms.text import TextTokenizer, pad_rows
from service.types import Feeds, Session, Work

ImageMode: TypeAlias = Literal["L", "RGB"]

_CHANNELS = {"L": 1, "RGB": 3}

_HEAVY_CHARACTERS = 2_000
"""Tokenizing that many takes about half a millisecond; a headline takes 0.02."""

_SHORTEST = 8


def is_heavy_text(text: str) -> bool:
    """Tell whether preprocessing this text would hold up the event loop."""
    return len(text) > _HEAVY_CHARACTERS


def open_tokenizer(folder: Path, name: str) -> TextTokenizer:
    """Read a tokenizer of a version. Raises ModelLoadError."""
    return TextTokenizer.open(file_inside(name, folder, folder, "[parameters]"))


@dataclass(frozen=True, slots=True)
class TextInput:
    """Texts for a graph that takes `input_ids` and `attention_mask`, both int64 [B, T]."""

    tokenizer: TextTokenizer
    max_length: int
    pad_id: int

    def __post_init__(self) -> None:
        if self.max_length <= self.tokenizer.special_tokens:
            raise ValueError(
                f"max_length is {self.max_length}, which leaves no room beside the tokenizer's "
                f"{self.tokenizer.special_tokens} special tokens"
            )

    @property
    def lengths(self) -> Sequence[int]:
        """Return 8, 16, 32 ... and the longest length allowed."""
        powers = [_SHORTEST]
        while powers[-1] * 2 < self.max_length:
            powers.append(powers[-1] * 2)
        return [length for length in powers if length < self.max_length] + [self.max_length]

    def work(self, text: str, lane: str) -> Work:
        """Tokenize; a text that is too long loses its end. Raises InvalidInputError."""
        ids, _ = self.tokenizer.encode(text, self.max_length)
        return Work({"input_ids": ids}, lane, len(ids))

    def probe(self, lane: str, length: int, group: Hashable = None) -> Work:
        """Return a work of exactly so many tokens."""
        return Work({"input_ids": np.full(length, self.pad_id, np.int64)}, lane, length, group)

    def feeds(self, batch: Sequence[Work]) -> Feeds:
        """Pad to the longest row of the batch."""
        ids, mask = pad_rows([work.tensors["input_ids"] for work in batch], self.pad_id)
        return {"input_ids": ids, "attention_mask": mask}

    def feeds_for(self, session: Session, batch: Sequence[Work]) -> Feeds:
        """Return what this graph asks for. Raises InferenceError if that is something else."""
        return fitted(self.feeds(batch), session)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Images for a graph that takes `pixel_values`, float32 [B, C, H, W]."""

    image_size: tuple[int, int]
    mode: ImageMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: tuple[int, int, int]

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        check_colour(self.background)
        channels = _CHANNELS[self.mode]
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(f"mean and std must have {channels} number(s) each for {self.mode}")
        if min(self.std) <= 0:
            raise ValueError("std must be above zero")

    @property
    def lengths(self) -> Sequence[int]:
        """Return the one number of pixels that every row has."""
        return [self.image_size[0] * self.image_size[1]]

    def work(self, image: tasks.Image, lane: str) -> Work:
        """Decode, stretch, normalise.

        Raises:
            InvalidInputError: the image is damaged.
            LimitExceededError: it has too many pixels.
            UnsupportedMediaTypeError: it is of a kind not read here.
        """
        decoded = decode_image(image.data, max_pixels=image.max_pixels, background=self.background)
        tensor = to_tensor(decoded, self.image_size, self.mode, self.mean, self.std)
        return Work({"pixel_values": tensor}, lane, self.lengths[0])

    def probe(self, lane: str) -> Work:
        """Return a work as long as every other."""
        shape = (_CHANNELS[self.mode], *self.image_size)
        return Work({"pixel_values": np.zeros(shape, np.float32)}, lane, self.lengths[0])

    def feeds(self, batch: Sequence[Work]) -> Feeds:
        """Put the images into one tensor."""
        return {"pixel_values": stacked(batch, "pixel_values")}


def stacked(batch: Sequence[Work], name: str) -> NDArray[np.float32]:
    """Return one tensor of all works, [B, ...]; of a single work without copying it."""
    if len(batch) == 1:
        return batch[0].tensors[name][None]
    return np.stack([work.tensors[name] for work in batch])


def check_image_size(size: Sequence[int]) -> None:
    """Refuse a size no image can have. Raises ValueError."""
    if min(size) < 1:
        raise ValueError("image_size must be above zero")


def check_colour(colour: Sequence[int]) -> None:
    """Refuse what is no colour. Raises ValueError."""
    if not all(0 <= part <= 255 for part in colour):  # noqa: PLR2004 - 8 bits
        raise ValueError("a colour's parts must be from 0 to 255")
