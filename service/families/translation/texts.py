"""What all translators do before and after the search: subwords, languages, options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from typing_extensions import override

from service.engine.inflight.scheduler import InFlight
from service.errors import InvalidInputError
from service.families.family import Traits
from service.families.text_input import is_long
from service.families.translation.glossary import Placeholders, Plan, plan
from service.families.translation.languages import Languages, Pair, Template
from service.families.translation.options import translation_of
from service.families.translation.sequences import (
    SequenceParameters,
    SequenceProcessor,
    prepared_text,
    subwords_of,
)
from service.tasks import TranslateItem, Translation
from service.transforms.language.languages import plain_code
from service.transforms.language.segmentation import (
    Document,
    Fits,
    Splitting,
    needs_splitting,
    split,
)
from service.types import PreparedItem, Tensors


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one piece, or has no words to translate."""
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    return document if document.segments else None


@dataclass(frozen=True, slots=True)
class TranslatorParameters(SequenceParameters):
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

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
    stand_ins: Placeholders = field(default_factory=Placeholders)
    """What stands for terms of a glossary that the model does not keep by itself."""

    def __post_init__(self) -> None:
        _ = self.defaults  # validates the options
        is_single = self.template == "eos" and not self.prefixes
        if is_single and None in (self.source_language, self.target_language):
            raise ValueError("source_language and target_language must be said")
        if self.template != "eos" and not self.languages:
            raise ValueError("languages must be one or more, with their tokens")
        if any("-" not in pair for pair in self.prefixes):
            raise ValueError('prefixes must be of pairs such as "en-de"')


@dataclass(frozen=True, slots=True, eq=False)
class TranslatorProcessor(SequenceProcessor[TranslateItem, Translation]):
    """Makes a text's tokens, and a translation of those that were written."""

    parameters: TranslatorParameters
    languages: Languages

    @classmethod
    def open(cls, folder: Path, parameters: TranslatorParameters) -> "TranslatorProcessor":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        tokens = parameters.languages
        subwords = subwords_of(folder, parameters, list(tokens.values()))
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
        room = self.room((before, after))
        ids = np.array([*before, *found[:room], *after], np.int64)
        first = self.languages.first_id(pair)
        decoding = self.parameters.defaults.decoding(item, ids)
        return prepared_text(ids, len(found) > room, first, decoding)

    @override
    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        pair = self.languages.pair(item.source, item.target)
        languages = (pair.source, pair.target)
        return translation_of(result, item.alternatives, self.decoded, languages)

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
        prefix, room = self.languages.prefix(pair), self.room(self._around(pair))
        return divided(
            item.text,
            Splitting(plain_code(pair.source), plain_code(pair.target), in_sentences),
            lambda text: len(self.subwords.encode(prefix + text)) <= room,
        )

    @override
    def usual_tokens_around(self) -> tuple[Sequence[int], Sequence[int]]:
        known = self.languages
        some = next(iter(known.ids), "")
        return self._around(Pair(known.source or some, known.target or some))

    def _around(self, pair: Pair) -> tuple[Sequence[int], Sequence[int]]:
        return self.languages.around(pair, self.parameters.rules.eos_ids[0])


def _target(parameters: TranslatorParameters, ids: Mapping[str, int]) -> str | None:
    """Return the default target: the manifest's, else the language that the model forces."""
    forced = parameters.rules.forced_bos_id
    if parameters.target_language is not None or forced is None:
        return parameters.target_language
    return next((code for code, number in ids.items() if number == forced), None)
