"""What every family of translators does round the search: languages, tokens, limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import InvalidInputError
from service.families.decoding import Decoding
from service.families.inputs import TextInput, open_tokenizer
from service.tasks import TranslateItem, Translation
from service.transforms.text import TextTokenizer
from service.types import Tensors, Work

_MOST_BEAMS = 8
_LARGEST_PENALTY = 10.0


@dataclass(frozen=True, slots=True)
class TranslationParameters:
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

    source_language: str
    target_language: str
    decoder_start_id: int
    eos_id: int
    pad_id: int
    """Of the source."""
    max_source_length: int
    """A longer text loses its end."""
    max_target_length: int
    num_beams: int = 1
    """Where the item does not say."""
    length_penalty: float = 1.0
    """Where the item does not say."""
    tokenizer: str = "source_tokenizer.json"
    target_tokenizer: str = "target_tokenizer.json"

    def __post_init__(self) -> None:
        try:
            _check(self.num_beams, self.length_penalty, self.max_target_length)
        except InvalidInputError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True, eq=False)
class TranslationTexts:
    """A text in the source language to a work, and a work's result to a text in the target's.

    A work holds `input_ids` and `is_cut`; its group is its `Decoding`. A result holds `ids` and
    `is_truncated`.
    """

    parameters: TranslationParameters
    inputs: TextInput
    target: TextTokenizer

    @classmethod
    def open(cls, folder: Path, parameters: TranslationParameters) -> "TranslationTexts":
        """Read both tokenizers. Raises ModelLoadError, ValueError."""
        source = open_tokenizer(folder, parameters.tokenizer)
        inputs = TextInput(source, parameters.max_source_length, parameters.pad_id)
        return cls(parameters, inputs, open_tokenizer(folder, parameters.target_tokenizer))

    @property
    def lengths(self) -> Sequence[int]:
        """Return row lengths worth timing."""
        return self.inputs.lengths

    def work(self, item: TranslateItem, lane: str) -> Work:
        """Tokenize; the decoding parameters become the work's group.

        Raises:
            InvalidInputError: the text is empty, the languages are not this model's, or a
                decoding parameter is out of its range.
        """
        self._check_languages(item)
        ids, is_cut = self.inputs.tokenizer.encode(item.text, self.inputs.max_length)
        tensors = {"input_ids": ids, "is_cut": np.array(is_cut)}
        return Work(tensors, lane, len(ids), self._decoding(item))

    def translation(self, result: Tensors) -> Translation:
        """Turn tokens into text."""
        return Translation(
            self.target.decode(result["ids"]),
            self.parameters.source_language,
            self.parameters.target_language,
            bool(result["is_truncated"]),
        )

    def probe(self, lane: str, length: int) -> Work:
        """Return a text of so many tokens, whose translation has as many."""
        own = self.parameters
        steps = min(length, own.max_target_length)
        decoding = Decoding(own.num_beams, own.length_penalty, steps, min_new_tokens=steps)
        work = self.inputs.probe(lane, length, decoding)
        return Work({**work.tensors, "is_cut": np.array(False)}, lane, length, decoding)

    def _decoding(self, item: TranslateItem) -> Decoding:
        own = self.parameters
        num_beams = own.num_beams if item.num_beams is None else item.num_beams
        penalty = own.length_penalty if item.length_penalty is None else item.length_penalty
        limit = own.max_target_length if item.max_new_tokens is None else item.max_new_tokens
        _check(num_beams, penalty, limit)
        if num_beams == 1:
            penalty = own.length_penalty  # greedy search has no use for it: share the batch
        return Decoding(num_beams, penalty, min(limit, own.max_target_length))

    def _check_languages(self, item: TranslateItem) -> None:
        own = self.parameters
        asked = (item.source or own.source_language, item.target or own.target_language)
        if asked != (own.source_language, own.target_language):
            raise InvalidInputError(
                f"this model translates from {own.source_language!r} to {own.target_language!r}, "
                f"not from {asked[0]!r} to {asked[1]!r}"
            )


def _check(num_beams: int, length_penalty: float, max_new_tokens: int) -> None:
    if not 1 <= num_beams <= _MOST_BEAMS:
        raise InvalidInputError(f"num_beams must be from 1 to {_MOST_BEAMS}")
    if not abs(length_penalty) <= _LARGEST_PENALTY:
        raise InvalidInputError(f"length_penalty must be within {_LARGEST_PENALTY:g} of zero")
    if max_new_tokens < 1:
        raise InvalidInputError("max_new_tokens must be at least 1")
