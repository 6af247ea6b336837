"""From texts to a graph's feeds; shared by the families that take texts."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError
from service.repository.paths import file_inside
from service.transforms.language.text import TextTokenizer, TokenIds, pad_rows
from service.types import Feeds, Group, PreparedItem, Session

# Kinds of types, by numpy's letters: boolean, integers and floating point.
_FED = "biuf"


def fitted(feeds: Feeds, session: Session) -> Feeds:
    """Return the feeds that the graph takes, each in the type it takes.

    Raises:
        InferenceError: the graph takes an input that is not fed, or a type that cannot be made.
    """
    fed = {}
    for name, spec in session.inputs.items():
        if name not in feeds:
            raise InferenceError(
                f"the graph wants {name!r}, which this family does not feed: "
                "another family, another export of the model, or its name in the table inputs of "
                "model.toml may fit"
            )
        fed[name] = feeds[name].astype(_fed_dtype(name, spec.dtype), copy=False)
    return fed


def one_output(outputs: Feeds, name: str) -> NDArray[Any]:
    """Return an output by name; a single output may have any name.

    Raises:
        InferenceError: there are several, and none has this name.
    """
    if name in outputs:
        return outputs[name]
    if len(outputs) > 1:
        raise InferenceError(f"the graph gives {', '.join(outputs)}, but no {name!r}")
    return next(iter(outputs.values()))


@lru_cache(256)  # every batch needs the same few
def _fed_dtype(name: str, wanted: str) -> np.dtype[Any]:
    with suppress(TypeError):  # of a type that numpy does not have, such as bfloat16
        dtype = np.dtype(wanted)
        if dtype.kind in _FED:  # other packages lend numpy such types, but sessions take none
            return dtype
    raise InferenceError(
        f"the graph wants {name!r} as {wanted}, which is not fed: export it in another precision"
    )


# Tokenizing this many takes about 0.5 ms; a headline takes 0.02 ms.
_LONG_CHARACTERS = 2_000

_LARGEST_ID = (1 << 31) - 1
_SHORTEST = 8
# Warm-up makes a text of `max_length` tokens, so a typing error could take all memory.
_LONGEST = 1 << 17


def is_long(text: str) -> bool:
    """Tell whether tokenizing this text would block the event loop for too long."""
    return len(text) > _LONG_CHARACTERS


@dataclass(frozen=True, kw_only=True)
class TextParameters:
    """Keys of `[parameters]` of a family that takes texts."""

    max_length: int
    """Tokens, special ones included; a longer text is cut."""
    pad_id: int
    """Token that shorter texts of a batch are padded with."""
    pads_to_max_length: bool = False
    """Whether every text is padded to `max_length`, for a graph of that one width, or for a
    network without a mask that was trained so (SigLIP)."""
    tokenizer: str = "tokenizer.json"
    """File of the tokenizer."""
    tokenizer_class: str = ""
    """transformers' name, such as "BertTokenizer"; only tokenizer.json does without."""
    truncation_side: Literal["right", "left"] = "right"
    """Which end of a longer text is cut."""
    lowercases: bool = False
    """Whether texts are lowercased before all else, whatever the tokenizer does."""
    first_position: int = 0
    """Of `position_ids`, for a graph that takes them; RoBERTa begins after its padding id."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """Texts for a graph that takes `input_ids`, int64 [B, T].

    It may also take `attention_mask`, `token_type_ids` and `position_ids`.
    """

    tokenizer: TextTokenizer
    max_length: int
    pad_id: int
    pads_to_max_length: bool = False
    """Whether every batch is `max_length` wide, for a graph that has no mask."""

    first_position: int = 0
    """Of `position_ids`; RoBERTa begins after its padding id."""

    @classmethod
    def open(cls, folder: Path, parameters: TextParameters) -> "TextInput":
        """Read the tokenizer of a version. Raises ModelLoadError, ValueError."""
        # The repository has refused links out of it; others may lead anywhere, as to a cache's
        # blobs.
        path = file_inside(parameters.tokenizer, folder, Path(folder.anchor), "[parameters]")
        tokenizer = TextTokenizer.open(
            path,
            parameters.tokenizer_class,
            cuts_the_end=parameters.truncation_side == "right",
            lowercases=parameters.lowercases,
        )
        return cls(
            tokenizer,
            parameters.max_length,
            parameters.pad_id,
            parameters.pads_to_max_length,
            parameters.first_position,
        )

    def __post_init__(self) -> None:
        if self.max_length > _LONGEST:
            raise ValueError(
                f"max_length is {self.max_length}, and no text of more than {_LONGEST} tokens is "
                "read: set what the model was trained for"
            )
        if not 0 <= self.pad_id <= _LARGEST_ID:
            raise ValueError(f"pad_id is {self.pad_id}, which no token can have")
        if self.max_length <= self.tokenizer.special_tokens:
            raise ValueError(
                f"max_length is {self.max_length}, which leaves no room for a text: the "
                f"tokenizer adds {self.tokenizer.special_tokens} special tokens"
            )

    @property
    def lengths(self) -> Sequence[int]:
        """Return 8, 16, 32 ... and the longest length allowed."""
        if self.pads_to_max_length:
            return [self.max_length]
        powers = [_SHORTEST]
        while powers[-1] * 2 < self.max_length:
            powers.append(powers[-1] * 2)
        return [length for length in powers if length < self.max_length] + [self.max_length]

    def prepare(self, text: str, lane: str, pair: str | None = None) -> PreparedItem:
        """Tokenize a text, or two as one; what is too long is cut. Raises InvalidInputError."""
        if pair is not None:
            ids, types = self.tokenizer.encode_pair(text, pair, self.max_length)
            return PreparedItem(
                {"input_ids": ids, "token_type_ids": types}, lane, self.row_length(ids)
            )
        ids, _ = self.tokenizer.encode(text, self.max_length)
        return self._prepared(ids, lane)

    def probe(self, lane: str, length: int, group: Group = None) -> PreparedItem:
        """Return a prepared item of exactly this many tokens.

        It contains the last token of the vocabulary, so a tokenizer with more tokens than the
        graph fails while the model is loaded.
        """
        prepared = self._prepared(self.tokenizer.sample(length), lane)
        return PreparedItem(prepared.tensors, lane, length, group)

    def feeds(self, batch: Sequence[PreparedItem]) -> Feeds:
        """Pad to the longest row of the batch, or to `max_length` if the graph needs it."""
        multiple = self.max_length if self.pads_to_max_length else 1
        ids, mask = pad_rows(
            [prepared.tensors["input_ids"] for prepared in batch], self.pad_id, multiple
        )
        return {"input_ids": ids, "attention_mask": mask}

    def feeds_for(self, session: Session, batch: Sequence[PreparedItem]) -> Feeds:
        """Return the feeds that this graph takes. Raises InferenceError."""
        feeds = dict(self.feeds(batch))
        if "token_type_ids" in session.inputs:
            feeds["token_type_ids"] = types = np.zeros_like(feeds["input_ids"])
            for row, prepared in zip(types, batch, strict=True):
                if (own := prepared.tensors.get("token_type_ids")) is not None:
                    row[: len(own)] = own
        if "position_ids" in session.inputs:
            places = np.arange(feeds["input_ids"].shape[1]) + self.first_position
            feeds["position_ids"] = np.tile(places, (len(batch), 1))
        return fitted(feeds, session)

    def _prepared(self, ids: TokenIds, lane: str) -> PreparedItem:
        tensors = {"input_ids": ids}
        if (types := self.tokenizer.types(len(ids))) is not None:
            tensors["token_type_ids"] = types
        return PreparedItem(tensors, lane, self.row_length(ids))

    def row_length(self, ids: TokenIds) -> int:
        """Return how many tokens the row of a text has in a batch of its own."""
        return self.max_length if self.pads_to_max_length else len(ids)
