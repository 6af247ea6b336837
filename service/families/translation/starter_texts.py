"""What every family of translators does round the search: languages, tokens, limits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from service.errors import InvalidInputError
from service.families.text_input import TextInput, open_tokenizer
from service.families.translation.glossary import Placeholders, Plan
from service.families.translation.languages import Pair
from service.families.translation.options import (
    LOOP_WINDOW,
    UsualSearch,
    timed_lengths,
    translation_of,
)
from service.families.translation.plan import plan
from service.tasks import TranslateItem, Translation
from service.transforms.language.languages import meant_by
from service.transforms.language.segmentation import (
    Document,
    Fits,
    Splitting,
    needs_splitting,
    split,
)
from service.transforms.language.text import TextTokenizer
from service.types import PreparedItem, Tensors


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one, or has no words: then it stays as it is."""
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    return document if document.segments else None


@dataclass(frozen=True, slots=True)
class TranslationParameters:
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

    source_language: str
    """Code of the language that is translated."""
    target_language: str
    """Code of the language that is translated to."""
    decoder_start_id: int
    """Token that a translation begins with; it is not part of the text."""
    eos_id: int
    """Token that ends a translation."""
    pad_id: int
    """Of the source."""
    max_source_length: int
    """A longer text loses its end."""
    max_target_length: int
    """Most tokens of a translation."""
    num_beams: int = 1
    """Where the item does not say."""
    length_penalty: float = 1.0
    """Where the item does not say."""
    loop_window: int = LOOP_WINDOW
    """A search stops where its best last tokens, so many, say one phrase over and over; 0 never."""
    stand_ins: Placeholders = field(default_factory=Placeholders)
    """What stands for terms of a glossary that the model does not keep by itself."""
    tokenizer: str = "source_tokenizer.json"
    """File of the tokenizer."""
    target_tokenizer: str = "target_tokenizer.json"
    """File of the tokenizer of translations."""

    def __post_init__(self) -> None:
        _ = self.usual  # which checks what it is made of

    @property
    def usual(self) -> UsualSearch:
        """Return what is done where an item does not say. Raises ValueError."""
        return UsualSearch(
            self.num_beams,
            self.length_penalty,
            self.max_target_length,
            self.max_target_length,
            self.loop_window,
        )


@dataclass(frozen=True, slots=True, eq=False)
class TranslationTexts:
    """A text in the source language to a work, and a work's result to a text in the target's.

    A work holds `input_ids` and `is_cut`; its group is its `Decoding`. A result is what
    `result_of` makes of what the search found.
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
    def languages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the languages that it translates from, and those that it translates to."""
        return (self.parameters.source_language,), (self.parameters.target_language,)

    @property
    def lengths(self) -> Sequence[int]:
        """Return row lengths worth timing."""
        return timed_lengths(self.inputs.lengths)

    def work(self, item: TranslateItem, lane: str) -> PreparedItem:
        """Tokenize; the decoding parameters become the work's group.

        Raises:
            InvalidInputError: the text is empty, the languages are not this model's, or a
                decoding parameter is out of its range.
        """
        self._check_languages(item)
        ids, is_cut = self.inputs.tokenizer.encode(item.text, self.inputs.max_length)
        tensors = {"input_ids": ids, "is_cut": np.array(is_cut)}
        return PreparedItem(tensors, lane, len(ids), self.parameters.usual.decoding(item, ids))

    def plan(self, item: TranslateItem) -> Plan | None:
        """Return how to ask for an item that is not asked as it is; None for any other."""
        own = self.parameters
        num_beams = own.num_beams if item.num_beams is None else item.num_beams
        return plan(item, num_beams, own.stand_ins, lambda: self._pair(item))

    def split(self, item: TranslateItem, in_sentences: bool) -> Document | None:
        """Return the text in pieces; None if it is one. Raises InvalidInputError."""
        self._check_languages(item)
        own, tokenizer, room = self.parameters, self.inputs.tokenizer, self.inputs.max_length
        return divided(
            item.text,
            Splitting(own.source_language, own.target_language, in_sentences),
            lambda text: tokenizer.length(text) <= room,
        )

    def translation(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        own = self.parameters
        languages = (own.source_language, own.target_language)
        return translation_of(result, item.alternatives, self.target.decode, languages)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many."""
        decoding = self.parameters.usual.timed(length)
        work = self.inputs.probe(lane, length, decoding)
        return PreparedItem({**work.tensors, "is_cut": np.array(False)}, lane, length, decoding)

    def _pair(self, item: TranslateItem) -> Pair:
        """Return the languages, as the model calls them. Raises InvalidInputError."""
        self._check_languages(item)
        return Pair(self.parameters.source_language, self.parameters.target_language)

    def _check_languages(self, item: TranslateItem) -> None:
        own = self.parameters
        known = (own.source_language, own.target_language)
        asked = (item.source or known[0], item.target or known[1])
        if not all(meant_by(one, (code,)) for one, code in zip(asked, known, strict=True)):
            raise InvalidInputError(
                f"this model translates from {own.source_language!r} to {own.target_language!r}, "
                f"not from {asked[0]!r} to {asked[1]!r}"
            )
