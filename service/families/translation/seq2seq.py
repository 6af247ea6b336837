"""Encoder-decoder transformers with a key-value cache: a text in, a text in another language out.

Greedy and batched beam search. What the encoder made, and the decoder's cache, stay on the
device from step to step; only token ids go there and log-probabilities come back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from service.families.text_input import is_heavy_text
from service.families.translation.glossary import Plan
from service.families.translation.options import result_of
from service.families.translation.search.hypotheses import Decoding, start_search
from service.families.translation.starter_texts import TranslationParameters, TranslationTexts
from service.tasks import TranslateItem, Translation
from service.transforms.language.segmentation import Document
from service.types import DeviceValue, Feed, Lane, PreparedItem, Sessions, Tensors

_LANE = "default"
_ENCODER = "encoder"
_DECODER = "decoder"


@dataclass(frozen=True, slots=True, eq=False)
class Seq2Seq:
    """Task: translate. Graphs `encoder` and `decoder`.

    `encoder`: input_ids, attention_mask -> cross.{i}.key and cross.{i}.value [B, H, S, D];
    `decoder`: input_ids [N, 1], beam_idx [N], sentence_idx [N], encoder_attention_mask [B, S],
    cross.*, past.{i}.key and past.{i}.value [M, H, P, D] -> logprobs [N, V], and present.*
    [N, H, P + 1, D], which is the next step's past.
    """

    parameters: TranslationParameters
    texts: TranslationTexts

    @classmethod
    def open(cls, folder: Path, parameters: TranslationParameters) -> "Seq2Seq":
        """Read both tokenizers. Raises ModelLoadError, ValueError."""
        return cls(parameters, TranslationTexts.open(folder, parameters))

    @property
    def modalities(self) -> frozenset[str]:
        """Return "text"."""
        return frozenset({"text"})

    @property
    def languages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the languages that it translates from, and those that it translates to."""
        return self.texts.languages

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, [_ENCODER, _DECODER])]

    def is_heavy(self, item: TranslateItem) -> bool:
        """Tell whether the text is long."""
        return is_heavy_text(item.text)

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
        feeds = self.texts.inputs.feeds(batch)
        _, cross = sessions[_ENCODER].run_kept(feeds, host=())
        known: Mapping[str, Feed] = {**cross, "encoder_attention_mask": feeds["attention_mask"]}
        past = _nothing_yet(cross, len(batch))
        own, decoding = self.parameters, cast(Decoding, batch[0].group)
        search = start_search(len(batch), decoding, own.decoder_start_id, own.eos_id)
        while not search.is_finished:
            rows = {
                "input_ids": search.tokens[:, None],
                "beam_idx": search.beam_idx,
                "sentence_idx": search.sentence_idx,
            }
            outputs, present = sessions[_DECODER].run_kept({**known, **past, **rows}, {"logprobs"})
            search.advance(outputs["logprobs"])
            past = {name.replace("present", "past", 1): value for name, value in present.items()}
        return [result_of(found, work) for found, work in zip(search.results(), batch, strict=True)]

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        return self.texts.translation(result, item)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many."""
        return self.texts.probe(lane, length)


def _nothing_yet(
    cross: Mapping[str, DeviceValue], sentences: int
) -> Mapping[str, NDArray[Any] | DeviceValue]:
    """Return the past of the first step: caches as wide as the encoder's, and empty."""
    return {
        name.replace("cross", "past", 1): np.zeros(
            (sentences, value.shape[1], 0, value.shape[3]), np.float32
        )
        for name, value in cross.items()
    }
