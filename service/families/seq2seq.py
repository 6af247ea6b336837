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

from service.errors import InvalidInputError
from service.families.decoding import Decoding, start_search
from service.families.inputs import TextInput, is_heavy_text, open_tokenizer
from service.tasks import TranslateItem, Translation
from service.transforms.text import TextTokenizer
from service.types import DeviceValue, Feed, Lane, Sessions, Tensors, Work

_LANE = "default"
_ENCODER = "encoder"
_DECODER = "decoder"
_MOST_BEAMS = 8
_LARGEST_PENALTY = 10.0


@dataclass(frozen=True, slots=True)
class Seq2SeqParameters:
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
class Seq2Seq:
    """Task: translate. Graphs `encoder` and `decoder`.

    `encoder`: input_ids, attention_mask -> cross.{i}.key and cross.{i}.value [B, H, S, D];
    `decoder`: input_ids [N, 1], beam_idx [N], sentence_idx [N], encoder_attention_mask [B, S],
    cross.*, past.{i}.key and past.{i}.value [M, H, P, D] -> logprobs [N, V], and present.*
    [N, H, P + 1, D], which is the next step's past.
    """

    parameters: Seq2SeqParameters
    texts: TextInput
    target: TextTokenizer

    @classmethod
    def open(cls, folder: Path, parameters: Seq2SeqParameters) -> "Seq2Seq":
        """Read both tokenizers. Raises ModelLoadError, ValueError."""
        source = open_tokenizer(folder, parameters.tokenizer)
        texts = TextInput(source, parameters.max_source_length, parameters.pad_id)
        return cls(parameters, texts, open_tokenizer(folder, parameters.target_tokenizer))

    @property
    def modalities(self) -> frozenset[str]:
        """Return "text"."""
        return frozenset({"text"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, [_ENCODER, _DECODER])]

    def is_heavy(self, item: TranslateItem) -> bool:
        """Tell whether the text is long."""
        return is_heavy_text(item.text)

    def preprocess(self, item: TranslateItem) -> Work:
        """Tokenize; the decoding parameters become the work's group.

        Raises:
            InvalidInputError: the text is empty, the languages are not this model's, or a
                decoding parameter is out of its range.
        """
        self._check_languages(item)
        ids, is_cut = self.texts.tokenizer.encode(item.text, self.texts.max_length)
        tensors = {"input_ids": ids, "is_cut": np.array(is_cut)}
        return Work(tensors, _LANE, len(ids), self._decoding(item))

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Encode once, then decode step by step until every sentence is finished."""
        feeds = self.texts.feeds(batch)
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
        return [
            {
                "ids": found.ids,
                "is_truncated": work.tensors["is_cut"] | (not found.is_complete),
            }
            for found, work in zip(search.results(), batch, strict=True)
        ]

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
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
        work = self.texts.probe(lane, length, decoding)
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
