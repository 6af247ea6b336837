"""Two towers, one space: a text and an image that mean the same get vectors that are close."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.families.feeding import fitted
from service.families.inputs import ImageInput, ImageMode, TextInput, is_heavy_text, open_tokenizer
from service.tasks import Embedding, EmbedItem, Image, Text
from service.transforms.image import WHITE
from service.types import Lane, Sessions, Tensors, Work

_TEXT = "text"
_IMAGE = "image"


@dataclass(frozen=True, slots=True)
class DualEncoderParameters:
    """The manifest's `[parameters]`."""

    max_length: int
    """Tokens, special ones included; a longer text loses its end."""
    pad_id: int
    image_size: tuple[int, int]
    """Height and width; an image is stretched to it."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mode: ImageMode = "RGB"
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""
    tokenizer: str = "tokenizer.json"


@dataclass(frozen=True, slots=True, eq=False)
class DualEncoder:
    """Task: embed. Lanes, and their graphs, are `text` and `image`.

    `text`: input_ids, attention_mask -> text_embeds [B, D];
    `image`: pixel_values -> image_embeds [B, D].
    """

    texts: TextInput
    images: ImageInput

    @classmethod
    def open(cls, folder: Path, parameters: DualEncoderParameters) -> "DualEncoder":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        tokenizer = open_tokenizer(folder, parameters.tokenizer)
        images = ImageInput(
            parameters.image_size,
            parameters.mode,
            parameters.mean,
            parameters.std,
            parameters.background,
        )
        return cls(TextInput(tokenizer, parameters.max_length, parameters.pad_id), images)

    @property
    def modalities(self) -> frozenset[str]:
        """Return both."""
        return frozenset({"text", "image"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return a lane for each tower."""
        return [
            Lane(_TEXT, self.texts.lengths, [_TEXT]),
            Lane(_IMAGE, self.images.lengths, [_IMAGE]),
        ]

    def is_heavy(self, item: EmbedItem) -> bool:
        """Tell whether it is an image or a long text."""
        return isinstance(item.content, Image) or is_heavy_text(item.content.text)

    def preprocess(self, item: EmbedItem) -> Work:
        """Tokenize or decode. Raises InvalidInputError and what `decode_image` raises."""
        if isinstance(item.content, Text):
            return self.texts.work(item.content.text, _TEXT)
        return self.images.work(item.content, _IMAGE)

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Run the batch's tower once, then scale every vector to unit length."""
        lane = batch[0].lane
        session = sessions[lane]
        feeds = self.texts.feeds(batch) if lane == _TEXT else self.images.feeds(batch)
        vectors = _unit(session.run(fitted(feeds, session))[f"{lane}_embeds"])
        return [{"embedding": vector} for vector in vectors]

    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        """Take the vector out of its batch, which a cache would otherwise keep whole."""
        return Embedding(result["embedding"].copy())

    def probe(self, lane: str, length: int) -> Work:
        """Return a text of so many tokens, or an image of the one size there is."""
        return self.texts.probe(lane, length) if lane == _TEXT else self.images.probe(lane)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scale rows to length 1; a row of zeros stays one."""
    wide = vectors.astype(np.float64)  # squares of float32 would overflow, or vanish
    norms = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    norms[norms == 0] = 1
    unit: NDArray[np.float32] = (wide / norms).astype(np.float32)
    return unit
