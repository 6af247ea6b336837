"""Encoder-decoder transformers whose sentences join and leave a running batch at any step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from service.families.text_input import is_heavy_text
from service.families.translation.glossary import Plan
from service.families.translation.search.boards import EarlyStopping, SearchRules
from service.families.translation.search.hypotheses import Decoding
from service.families.translation.starter_texts import TranslationParameters, TranslationTexts
from service.families.translation.step_rows import DecodeBatch
from service.families.translation.translation_rows import (
    SESSIONS,
    TranslationRows,
    begun,
    translated,
)
from service.tasks import TranslateItem, Translation
from service.transforms.language.segmentation import Document
from service.types import Lane, PreparedItem, Sessions, Tensors

_LANE = "default"


@dataclass(frozen=True, slots=True)
class Seq2SeqStepsParameters(TranslationParameters):
    """The manifest's `[parameters]`: a translator's, and what its searches must keep to."""

    early_stopping: EarlyStopping = False
    """When beam search ends; as in transformers' generation config."""
    forced_first_id: int | None = None
    """Written first, e.g. the target language."""
    forced_last_id: int | None = None
    """Written when a translation reaches its limit."""


@dataclass(frozen=True, slots=True, eq=False)
class Seq2SeqSteps:
    """Task: translate. Graphs `encoder`, `join`, `step` and `move`, as `models.export` makes them.

    `encoder`: input_ids, attention_mask -> cross.{i}.key and cross.{i}.value [B, H, S, D];
    the others work in place on caches of which every row is a hypothesis.
    """

    parameters: Seq2SeqStepsParameters
    texts: TranslationTexts

    @classmethod
    def open(cls, folder: Path, parameters: Seq2SeqStepsParameters) -> "Seq2SeqSteps":
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
        return [Lane(_LANE, self.texts.lengths, SESSIONS)]

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
        """Translate a batch from beginning to end, in rows of its own."""
        return translated(self.open_rows(), sessions, batch)

    def open_rows(self) -> TranslationRows:
        """Return rows with nobody in them."""
        own = self.parameters
        rules = SearchRules(
            own.decoder_start_id,
            own.eos_id,
            own.forced_first_id,
            own.forced_last_id,
            own.early_stopping,
        )
        return TranslationRows(self.texts.inputs.feeds_for, DecodeBatch(rules))

    def rows_for(self, work: PreparedItem) -> int:
        """Return the number of beams."""
        return cast(Decoding, work.group).num_beams

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        return self.texts.translation(result, item)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many, up to a few."""
        return begun(self.texts.probe(lane, length))
