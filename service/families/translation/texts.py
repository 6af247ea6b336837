"""What all translators do before and after the search: subwords, languages, options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.engine.inflight.scheduler import InFlight
from service.errors import InvalidInputError
from service.families.family import LANE, Traits
from service.families.text_input import is_long
from service.families.translation.glossary import Placeholders, Plan, plan
from service.families.translation.languages import Languages, Pair, Template
from service.families.translation.options import (
    LOOP_WINDOW,
    DefaultSearch,
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
from service.types import Feeds, PreparedItem, Processor, Tensors

_SHORTEST = 8
# Repeated to the length that warm-up needs.
_SAMPLE = "a text, 一"


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one piece, or has no words to translate."""
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    return document if document.segments else None


@dataclass(frozen=True, slots=True)
class TranslatorParameters:
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
    """Last tokens in which a repeated phrase stops the search; 0 turns the check off."""
    stand_ins: Placeholders = field(default_factory=Placeholders)
    """What stands for terms of a glossary that the model does not keep by itself."""
    tidies_spaces: bool = False
    """Whether spaces before English punctuation are taken out of translations."""

    def __post_init__(self) -> None:
        _ = self.defaults  # validates the options
        is_single = self.template == "eos" and not self.prefixes
        if is_single and None in (self.source_language, self.target_language):
            raise ValueError("source_language and target_language must be said")
        if self.template != "eos" and not self.languages:
            raise ValueError("languages must be one or more, with their tokens")
        if any("-" not in pair for pair in self.prefixes):
            raise ValueError('prefixes must be of pairs such as "en-de"')

    @property
    def defaults(self) -> DefaultSearch:
        """Return the options of an item that sets none. Raises ValueError."""
        limit = self.max_target_length if self.max_new_tokens is None else self.max_new_tokens
        return DefaultSearch(
            self.num_beams, self.length_penalty, limit, self.max_target_length, self.loop_window
        )


@dataclass(frozen=True, slots=True, eq=False)
class TranslatorProcessor(Processor[TranslateItem, Translation]):
    """Tokenizes a text, and decodes what the search found.

    A prepared item has `input_ids`, `is_cut` and `first_id`, the forced first token of the
    translation (UNFORCED if there is none); its group is its `Decoding`. A result is that of
    `result_of`.
    """

    parameters: TranslatorParameters
    subwords: Subwords
    languages: Languages

    @classmethod
    def open(cls, folder: Path, parameters: TranslatorParameters) -> "TranslatorProcessor":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        files = parameters.tokenizer_files
        for name in files:
            file_inside(name, folder, Path(folder.anchor), "[parameters]")  # links were checked
        tokens = parameters.languages
        subwords = open_subwords(folder, parameters.tokenizer, files, list(tokens.values()))
        ids = {code: subwords.id_of(token) for code, token in tokens.items()}
        known = {code: number for code, number in ids.items() if number is not None}
        if unknown := [tokens[code] for code in ids if code not in known]:
            raise ValueError(f"the tokenizer does not know {', '.join(unknown)} of languages")
        languages = Languages(
            parameters.template,
            known,
            parameters.prefixes,
            parameters.source_language,
            _target(parameters, known),
        )
        return cls(parameters, subwords, languages)

    def traits(self, in_flight: InFlight | None = None) -> Traits[TranslateItem, Translation]:
        """Return what translators can do besides what every family does."""
        languages = self.languages.sources, self.languages.targets
        return Traits(split=self.split, plan=self.plan, languages=languages, in_flight=in_flight)

    @override
    def offload(self, item: TranslateItem) -> bool:
        return is_long(item.text)

    @override
    def preprocess(self, item: TranslateItem) -> PreparedItem:
        pair = self.languages.pair(item.source, item.target)
        if not item.text or item.text.isspace():
            raise InvalidInputError("the text is empty")
        found = self.subwords.encode(self.languages.prefix(pair) + item.text)
        if not found:
            raise InvalidInputError("the text has nothing that this model reads")
        before, after = self._around(pair)
        room = self._room(pair)
        ids = np.array([*before, *found[:room], *after], np.int64)
        first = self.languages.first_id(pair)
        decoding = self.parameters.defaults.decoding(item, ids)
        return _prepared(ids, len(found) > room, first, decoding, LANE)

    @override
    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        pair = self.languages.pair(item.source, item.target)
        languages = (pair.source, pair.target)
        return translation_of(result, item.alternatives, self._decoded, languages)

    def plan(self, item: TranslateItem) -> Plan | None:
        """Return how to translate an item that needs more than one run, or none."""
        own = self.parameters
        num_beams = own.num_beams if item.num_beams is None else item.num_beams
        return plan(
            item, num_beams, own.stand_ins, lambda: self.languages.pair(item.source, item.target)
        )

    def split(self, item: TranslateItem, in_sentences: bool) -> Document | None:
        """Return the text in segments; None if it is a single one. Raises InvalidInputError."""
        pair = self.languages.pair(item.source, item.target)
        prefix, room = self.languages.prefix(pair), self._room(pair)
        return divided(
            item.text,
            Splitting(plain_code(pair.source), plain_code(pair.target), in_sentences),
            lambda text: len(self.subwords.encode(prefix + text)) <= room,
        )

    @property
    def lengths(self) -> Sequence[int]:
        """Return the row lengths that warm-up times."""
        longest = self.parameters.max_source_length
        powers = [_SHORTEST << n for n in range(longest.bit_length()) if _SHORTEST << n < longest]
        return timed_lengths([*powers, longest])

    def feeds(self, batch: Sequence[PreparedItem]) -> Feeds:
        """Pad to the longest row of the batch."""
        rows = [prepared.tensors["input_ids"] for prepared in batch]
        ids, mask = pad_rows(rows, self.parameters.pad_id)
        return {"input_ids": ids, "attention_mask": mask}

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of this many tokens, whose translation has as many."""
        own, known = self.parameters, self.languages
        some = next(iter(known.ids), "")
        before, after = self._around(Pair(known.source or some, known.target or some))
        body = self.subwords.encode(_SAMPLE) or list(after)
        words = np.resize(body, max(length - len(before) - len(after), 0))
        ids = np.array([*before, *words, *after], np.int64)[:length]
        return _prepared(ids, False, None, own.defaults.timed(length), lane)

    def _decoded(self, ids: NDArray[np.int64]) -> str:
        text = self.subwords.decode(ids.tolist())
        return _tidied(text) if self.parameters.tidies_spaces else text

    def _around(self, pair: Pair) -> tuple[Sequence[int], Sequence[int]]:
        return self.languages.around(pair, self.parameters.rules.eos_ids[0])

    def _room(self, pair: Pair) -> int:
        """Return how many tokens a text may have, its prefix included."""
        before, after = self._around(pair)
        return max(self.parameters.max_source_length - len(before) - len(after), 0)


def _target(parameters: TranslatorParameters, ids: Mapping[str, int]) -> str | None:
    """Return the default target: the manifest's, else the language that the model forces."""
    forced = parameters.rules.forced_bos_id
    if parameters.target_language is not None or forced is None:
        return parameters.target_language
    return next((code for code, number in ids.items() if number == forced), None)


def _prepared(
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
