"""Translators as transformers and Optimum write them: Marian, T5, mBART-50, M2M-100, NLLB."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from service.families.text_input import fitted, is_long
from service.families.translation.cached_decoder import ENCODER, SESSIONS, CachedDecoder, CacheKind
from service.families.translation.glossary import Plan
from service.families.translation.options import result_of
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.logits import LogitsSearch
from service.families.translation.search.rules import Texts
from service.families.translation.texts import SubwordParameters, SubwordTexts
from service.tasks import TranslateItem, Translation
from service.transforms.language.segmentation import Document
from service.types import Lane, PreparedItem, Sessions, Tensors

_LANE = "default"
_STATES = "last_hidden_state"


@dataclass(frozen=True, slots=True)
class EncoderDecoderParameters(SubwordParameters):
    """The manifest's `[parameters]`: a translator's, and how its decoder keeps what it read."""

    cache: CacheKind = "merged"
    """How the decoder graphs pass on what they have computed."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderDecoder:
    """Task: translate. Graphs `encoder`, `decoder` and, for cache "pair", `decoder_with_past`.

    Their inputs and outputs are those that Optimum gives them. Tokens are those of `generate` in
    transformers under the same generation_config.json; nothing is drawn at random.
    """

    parameters: EncoderDecoderParameters
    texts: SubwordTexts

    @classmethod
    def open(cls, folder: Path, parameters: EncoderDecoderParameters) -> "EncoderDecoder":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        return cls(parameters, SubwordTexts.open(folder, parameters))

    @property
    def languages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the languages that it translates from, and those that it translates to."""
        return self.texts.languages.sources, self.texts.languages.targets

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, SESSIONS[self.parameters.cache])]

    def offload(self, item: TranslateItem) -> bool:
        """Tell whether the text is long."""
        return is_long(item.text)

    def split(self, item: TranslateItem, in_sentences: bool) -> Document | None:
        """Return the text in pieces; None if it is one. Raises InvalidInputError."""
        return self.texts.split(item, in_sentences)

    def plan(self, item: TranslateItem) -> Plan | None:
        """Return how to ask for an item that is not asked as it is; None for any other."""
        return self.texts.plan(item)

    def preprocess(self, item: TranslateItem) -> PreparedItem:
        """Tokenize. Raises InvalidInputError."""
        return self.texts.work(item, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Encode once, then decode step by step until every sentence is finished."""
        encoder = sessions[ENCODER]
        feeds = self.texts.feeds(batch)
        _, states = encoder.run_kept(fitted(feeds, encoder), host=())
        decoder = CachedDecoder(
            sessions,
            self.parameters.cache,
            {
                "encoder_hidden_states": states[_STATES],
                "encoder_attention_mask": feeds["attention_mask"],
            },
        )
        rules, decoding = self.parameters.rules, cast(Decoding, batch[0].group)
        forced = rules.first_tokens(np.array([work.tensors["first_id"] for work in batch]))
        sources = [work.tensors["input_ids"] for work in batch]
        search = LogitsSearch(decoding, rules, Texts(forced, sources))
        while not search.is_finished:
            search.advance(decoder.logits(search))
        return [result_of(found, work) for found, work in zip(search.results(), batch, strict=True)]

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        return self.texts.translation(result, item)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many."""
        return self.texts.probe(lane, length)
