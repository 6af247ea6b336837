"""What families of translators that transformers wrote do round the search: subwords, languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.families.translation.glossary import Placeholders, Plan, plan
from service.families.translation.languages import Languages, Pair, Template
from service.families.translation.options import (
    LOOP_WINDOW,
    UsualSearch,
    timed_lengths,
    translation_of,
)
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.rules import UNFORCED, TokenRules
from service.repository.paths import file_inside
from service.tasks import TranslateItem, Translation
from service.transforms.language.languages import plain_code
from service.transforms.language.segmentation import (
    Document,
    Fits,
    Splitting,
    needs_splitting,
    split,
)
from service.transforms.language.subwords import SubwordKind, Subwords, open_subwords
from service.transforms.language.text import pad_rows
from service.types import Feeds, PreparedItem, Tensors

_SHORTEST = 8
_SAMPLE = "a text, 一"
"""What warm-up reads, as often as it takes."""


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one piece, or has no words to translate."""
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    return document if document.segments else None


@dataclass(frozen=True, slots=True)
class SubwordParameters:
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

    rules: TokenRules
    """How translations are searched for."""
    pad_id: int
    """Of the source."""
    max_source_length: int
    """A longer text loses its end."""
    max_target_length: int
    """The most that an item may ask for."""
    tokenizer: SubwordKind = "tokenizers"
    """File of the tokenizer."""
    tokenizer_files: tuple[str, ...] = ("tokenizer.json",)
    """Files of the tokenizer, in the order in which its kind reads them."""
    template: Template = "eos"
    """Which special tokens are put around a text, and where."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Token of each language, by its code, in the order of their ids."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """What is written before a text, by "source-target"."""
    source_language: str | None = None
    """Where the item does not say."""
    target_language: str | None = None
    """Where the item does not say."""
    max_new_tokens: int | None = None
    """Where the item does not say; None means as many as there may be."""
    num_beams: int = 1
    """Where the item does not say."""
    length_penalty: float = 1.0
    """Where the item does not say."""
    loop_window: int = LOOP_WINDOW
    """A search stops where its best last tokens, so many, say one phrase over and over; 0 never."""
    stand_ins: Placeholders = field(default_factory=Placeholders)
    """What stands for terms of a glossary that the model does not keep by itself."""
    tidies_spaces: bool = False
    """Whether spaces before English punctuation are taken out of translations."""

    def __post_init__(self) -> None:
        _ = self.usual  # which checks what it is made of
        is_single = self.template == "eos" and not self.prefixes
        if is_single and None in (self.source_language, self.target_language):
            raise ValueError("source_language and target_language must be said")
        if self.template != "eos" and not self.languages:
            raise ValueError("languages must be one or more, with their tokens")
        if any("-" not in pair for pair in self.prefixes):
            raise ValueError('prefixes must be of pairs such as "en-de"')

    @property
    def usual(self) -> UsualSearch:
        """Return what is done where an item does not say. Raises ValueError."""
        limit = self.max_target_length if self.max_new_tokens is None else self.max_new_tokens
        return UsualSearch(
            self.num_beams, self.length_penalty, limit, self.max_target_length, self.loop_window
        )


@dataclass(frozen=True, slots=True, eq=False)
class SubwordTexts:
    """A text to a work, and a work's result to a text.

    A work holds `input_ids`, `is_cut` and `first_id`, the token that the translation must begin
    with (UNFORCED where it is free); its group is its `Decoding`. A result is what `result_of`
    makes of what the search found.
    """

    parameters: SubwordParameters
    subwords: Subwords
    languages: Languages

    @classmethod
    def open(cls, folder: Path, parameters: SubwordParameters) -> "SubwordTexts":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        files = parameters.tokenizer_files
        for name in files:
            file_inside(name, folder, Path(folder.anchor), "[parameters]")  # links were checked
        tokens = parameters.languages
        subwords = open_subwords(folder, parameters.tokenizer, files, list(tokens.values()))
        ids = {code: subwords.id_of(token) for code, token in tokens.items()}
        known = {code: number for code, number in ids.items() if number is not None}
        if strange := [tokens[code] for code in ids if code not in known]:
            raise ValueError(f"the tokenizer does not know {', '.join(strange)} of languages")
        languages = Languages(
            parameters.template,
            known,
            parameters.prefixes,
            parameters.source_language,
            _target(parameters, known),
        )
        return cls(parameters, subwords, languages)

    @property
    def lengths(self) -> Sequence[int]:
        """Return row lengths worth timing."""
        longest = self.parameters.max_source_length
        powers = [_SHORTEST << n for n in range(longest.bit_length()) if _SHORTEST << n < longest]
        return timed_lengths([*powers, longest])

    def work(self, item: TranslateItem, lane: str) -> PreparedItem:
        """Tokenize; the decoding parameters become the work's group.

        Raises:
            InvalidInputError: the text is empty, the languages are not this model's, or a
                decoding parameter is out of its range.
        """
        pair = self.languages.pair(item.source, item.target)
        if not item.text or item.text.isspace():
            raise InvalidInputError("the text is empty")
        found = self.subwords.encode(self.languages.prefix(pair) + item.text)
        if not found:
            raise InvalidInputError("the text has nothing that this model reads")
        before, after = self.languages.around(pair, self.parameters.rules.eos_ids[0])
        room = self._room(pair)
        ids = np.array([*before, *found[:room], *after], np.int64)
        first = self.languages.first_id(pair)
        decoding = self.parameters.usual.decoding(item, ids)
        return _work(ids, len(found) > room, first, decoding, lane)

    def plan(self, item: TranslateItem) -> Plan | None:
        """Return how to ask for an item that is not asked as it is; None for any other."""
        own = self.parameters
        num_beams = own.num_beams if item.num_beams is None else item.num_beams
        return plan(
            item, num_beams, own.stand_ins, lambda: self.languages.pair(item.source, item.target)
        )

    def split(self, item: TranslateItem, in_sentences: bool) -> Document | None:
        """Return the text in pieces; None if it is one. Raises InvalidInputError."""
        pair = self.languages.pair(item.source, item.target)
        prefix, room = self.languages.prefix(pair), self._room(pair)
        return divided(
            item.text,
            Splitting(plain_code(pair.source), plain_code(pair.target), in_sentences),
            lambda text: len(self.subwords.encode(prefix + text)) <= room,
        )

    def feeds(self, batch: Sequence[PreparedItem]) -> Feeds:
        """Pad to the longest row of the batch."""
        ids, mask = pad_rows([work.tensors["input_ids"] for work in batch], self.parameters.pad_id)
        return {"input_ids": ids, "attention_mask": mask}

    def translation(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        pair = self.languages.pair(item.source, item.target)
        languages = (pair.source, pair.target)
        return translation_of(result, item.alternatives, self._decoded, languages)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many."""
        own, known = self.parameters, self.languages
        anyone = next(iter(known.ids), "")
        pair = Pair(known.source or anyone, known.target or anyone)
        before, after = known.around(pair, own.rules.eos_ids[0])
        body = self.subwords.encode(_SAMPLE) or list(after)
        words = np.resize(body, max(length - len(before) - len(after), 0))
        ids = np.array([*before, *words, *after], np.int64)[:length]
        return _work(ids, False, None, own.usual.timed(length), lane)

    def _decoded(self, ids: NDArray[np.int64]) -> str:
        text = self.subwords.decode(ids.tolist())
        return _tidied(text) if self.parameters.tidies_spaces else text

    def _room(self, pair: Pair) -> int:
        """Return how many tokens a text may have, its prefix included."""
        before, after = self.languages.around(pair, self.parameters.rules.eos_ids[0])
        return max(self.parameters.max_source_length - len(before) - len(after), 0)


def _target(parameters: SubwordParameters, ids: Mapping[str, int]) -> str | None:
    """Return the usual target: what is said, else the language that the model is forced to."""
    forced = parameters.rules.forced_bos_id
    if parameters.target_language is not None or forced is None:
        return parameters.target_language
    return next((code for code, number in ids.items() if number == forced), None)


def _work(
    ids: np.ndarray, is_cut: bool, first: int | None, decoding: Decoding, lane: str
) -> PreparedItem:
    tensors = {
        "input_ids": ids,
        "is_cut": np.array(is_cut),
        "first_id": np.array(UNFORCED if first is None else first, np.int64),
    }
    return PreparedItem(tensors, lane, len(ids), decoding)


def _tidied(text: str) -> str:
    for mark in (" .", " ?", " !", " ,"):
        text = text.replace(mark, mark[1:])
    text = text.replace(" ' ", "'")
    for ending in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(ending, ending[1:])
    return text
