"""Encoder-decoder transformers whose sentences join and leave a running batch at any step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from service.batching.inflight.policy import alike
from service.batching.inflight.rows import Key
from service.families.decoding import Decoding
from service.families.inputs import is_heavy_text
from service.families.step_rows import Newcomers, StepRows
from service.families.step_search import EarlyStopping, Finished, SearchRules
from service.families.translating import TranslationParameters, TranslationTexts
from service.tasks import TranslateItem, Translation
from service.types import Lane, Sessions, Tensors, Work

_LANE = "default"
_ENCODER = "encoder"
_MOST_PADDING = 0.2
"""Share of the encoder's cost that reading sentences together may waste."""

_SESSIONS = (_ENCODER, "join", "step", "move")


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
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, _SESSIONS)]

    def is_heavy(self, item: TranslateItem) -> bool:
        """Tell whether the text is long."""
        return is_heavy_text(item.text)

    def preprocess(self, item: TranslateItem) -> Work:
        """Tokenize. Raises InvalidInputError."""
        return self.texts.work(item, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Translate a batch from beginning to end, in rows of its own."""
        rows = self.open_rows()
        rows.begin(sessions, dict(enumerate(batch)))
        found: dict[Key, Tensors] = {}
        while rows.count:
            found.update(rows.step(sessions))
        return [found[index] for index in range(len(batch))]

    def open_rows(self) -> "TranslationRows":
        """Return rows with nobody in them."""
        own = self.parameters
        rules = SearchRules(
            own.decoder_start_id,
            own.eos_id,
            own.forced_first_id,
            own.forced_last_id,
            own.early_stopping,
        )
        return TranslationRows(self.texts, StepRows(rules))

    def rows_for(self, work: Work) -> int:
        """Return the number of beams."""
        return cast(Decoding, work.group).num_beams

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        return self.texts.translation(result)

    def probe(self, lane: str, length: int) -> Work:
        """Return a text of so many tokens, whose translation has as many."""
        return self.texts.probe(lane, length)


class TranslationRows:
    """Translations in progress. Satisfies `service.batching.inflight.rows.Rows`."""

    def __init__(self, texts: TranslationTexts, rows: StepRows) -> None:
        self._texts, self._rows = texts, rows
        self._works: dict[Key, Work] = {}
        self._newcomers: list[Newcomers] = []

    def __repr__(self) -> str:
        return f"<TranslationRows {self._rows}, {len(self._newcomers)} groups of newcomers>"

    @property
    def count(self) -> int:
        """Return how many works are in progress."""
        return len(self._works)

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes."""
        return self._rows.in_use + sum(len(group.keys) for group in self._newcomers)

    def begin(self, sessions: Sessions, works: Mapping[Key, Work]) -> None:
        """Read sentences of about the same length together. Raises ServiceError."""
        keys = list(works)
        groups = alike([works[key].length for key in keys], _MOST_PADDING)
        read = [
            self._read(sessions, {keys[index]: works[keys[index]] for index in group})
            for group in groups
        ]
        self._newcomers += read
        self._works.update(works)

    def step(self, sessions: Sessions) -> Mapping[Key, Tensors]:
        """Write one more token of every translation. Raises ServiceError."""
        finished = self._rows.step(sessions, self._newcomers)
        self._newcomers = []
        return {done.key: self._result(done) for done in finished}

    def drop(self, keys: frozenset[Key]) -> None:
        """Forget works."""
        for key in keys:
            self._works.pop(key, None)
        self._rows.drop(keys)

    def reset(self) -> None:
        """Forget all works, and give memory back."""
        self._works.clear()
        self._newcomers = []
        self._rows.reset()

    def progress(self, keys: frozenset[Key]) -> Mapping[Key, Tensors]:
        """Return the beginnings of translations."""
        return {
            key: {"ids": ids, "is_truncated": np.array(True)}
            for key, ids in self._rows.progress()
            if key in keys
        }

    def _read(self, sessions: Sessions, works: Mapping[Key, Work]) -> Newcomers:
        batch = list(works.values())
        session = sessions[_ENCODER]
        feeds = self._texts.inputs.feeds_for(session, batch)
        _, cross = session.run_kept(feeds, host=())
        lengths = [work.length for work in batch]
        decodings = [cast(Decoding, work.group) for work in batch]
        return Newcomers(list(works), decodings, lengths, cross, max(lengths))

    def _result(self, done: Finished) -> Tensors:
        best = done.found[0]
        work = self._works.pop(done.key)
        return {
            "ids": best.ids,
            "is_truncated": work.tensors["is_cut"] | (not best.is_complete),
        }
