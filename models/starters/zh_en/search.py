"""Translating with a decoder that can make one step: the PyTorch network, or its export.

The search itself is the one that serves, so the recipe judges what users will get.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.starters.zh_en.model import BOS_ID, EOS_ID, PAD_ID, KeysAndValues, Translator
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.logits import LogitsSearch
from service.families.translation.search.rules import UNFORCED, Texts, TokenRules

Ids = NDArray[np.int64]

RULES = TokenRules(BOS_ID, (EOS_ID,))


class Steps(Protocol):
    """A decoder with a memory of the sentences and of the tokens taken so far."""

    def begin(self, rows: Sequence[Sequence[int]]) -> None:
        """Encode the sentences, given as token ids, and forget what was before."""
        ...

    def step(self, tokens: Ids, beam_idx: Ids, sentence_idx: Ids) -> NDArray[np.float32]:
        """Log-probabilities [N, V] after one more token of each of N rows.

        Args:
            tokens: the last token of each row [N].
            beam_idx: the row of the step before that each row continues [N].
            sentence_idx: the sentence each row translates [N].
        """
        ...


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both [B, longest row], padded on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *([PAD_ID] * (longest - len(row)))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


class TorchSteps:
    """Steps of the PyTorch network, in the precision of its weights."""

    def __init__(self, model: Translator) -> None:
        self.model = model
        self._source: list[KeysAndValues] = []
        self._mask = torch.zeros(0)
        self._past: list[KeysAndValues] | None = None

    @torch.inference_mode()
    def begin(self, rows: Sequence[Sequence[int]]) -> None:
        """Encode the sentences, given as token ids, and forget what was before."""
        ids, self._mask = pad(rows)
        self._source = self.model.encode(ids, self._mask)
        self._past = None

    @torch.inference_mode()
    def step(self, tokens: Ids, beam_idx: Ids, sentence_idx: Ids) -> NDArray[np.float32]:
        """Log-probabilities [N, V] after one more token of each of N rows."""
        rows, sentences = torch.from_numpy(beam_idx), torch.from_numpy(sentence_idx)
        source = [selected(memory, sentences) for memory in self._source]
        past = self._past and [selected(memory, rows) for memory in self._past]
        token = torch.from_numpy(tokens)[:, None]
        states, self._past = self.model.decode(token, source, self._mask[sentences], past)
        logprobs: NDArray[np.float32] = self.model.logits(states[:, -1]).log_softmax(dim=-1).numpy()
        return logprobs


def selected(memory: KeysAndValues, rows: Tensor) -> KeysAndValues:
    """The keys and values of the given rows."""
    return KeysAndValues(memory.keys.index_select(0, rows), memory.values.index_select(0, rows))


def search(steps: Steps, rows: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
    """Target ids, without the end token, of one batch of sentences given as source ids."""
    steps.begin(rows)
    texts = Texts(np.full(len(rows), UNFORCED), [np.array(row) for row in rows])
    running = LogitsSearch(decoding, RULES, texts)
    while not running.is_finished:
        tokens = running.history[:, -1]
        running.advance(steps.step(tokens, running.beam_idx, running.sentence_idx))
    return [found[0].ids.tolist() for found in running.results()]


@dataclass(frozen=True, slots=True)
class Tokenizers:
    """Tokenizers of the two languages."""

    source: Tokenizer
    target: Tokenizer


def translate_all(
    steps: Steps,
    tokenizers: Tokenizers,
    texts: Sequence[str],
    decoding: Decoding,
    batch_size: int = 64,
) -> list[str]:
    """Translations of many texts, in their order; batched by length for speed."""
    rows = [encoding.ids for encoding in tokenizers.source.encode_batch(list(texts))]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    answers = [""] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found = search(steps, [rows[index] for index in chosen], decoding)
        for index, text in zip(chosen, tokenizers.target.decode_batch(found), strict=True):
            answers[index] = text
    return answers
