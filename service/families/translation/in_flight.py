"""Translators of transformers whose sentences join and leave a running batch at any step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from service.families.text_input import fitted, is_long
from service.families.translation.decode_batch import DecodeBatch
from service.families.translation.glossary import Plan
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.rules import UNFORCED, TokenBans, TokenRules
from service.families.translation.texts import SubwordParameters, SubwordTexts
from service.families.translation.translation_rows import (
    SESSIONS,
    TranslationRows,
    begun,
    translated,
)
from service.tasks import TranslateItem, Translation
from service.transforms.language.segmentation import Document
from service.types import Feeds, Lane, PreparedItem, Session, Sessions, Tensors

_LANE = "default"


@dataclass(frozen=True, slots=True)
class EncoderDecoderStepsParameters(SubwordParameters):
    """The manifest's `[parameters]`: a translator's, and what its graphs hold to by themselves."""

    forbidden: tuple[int, ...] = ()
    """Tokens that the step graph never chooses; those that the rules forbid always."""
    renormalized: bool = False
    """Whether the step graph's probabilities are of the other tokens alone."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderDecoderSteps:
    """Task: translate. Graphs `encoder`, `join`, `step` and `move`, as `models.export` makes them.

    Tokens are those of `generate` in transformers under the same generation_config.json; nothing
    is drawn at random.
    """

    parameters: EncoderDecoderStepsParameters
    texts: SubwordTexts
    rules: SearchRules

    @classmethod
    def open(cls, folder: Path, parameters: EncoderDecoderStepsParameters) -> "EncoderDecoderSteps":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        rules = search_rules(parameters.rules, parameters.forbidden)
        if problem := _graph_problem(parameters):
            raise ValueError(problem)
        return cls(parameters, SubwordTexts.open(folder, parameters), rules)

    @property
    def languages(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the languages that it translates from, and those that it translates to."""
        return self.texts.languages.sources, self.texts.languages.targets

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, SESSIONS)]

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
        work = self.texts.work(item, _LANE)
        first = int(work.tensors["first_id"])
        least = max(self.parameters.rules.min_length - 1, 0)  # the start token is not written
        return _searched(work, None if first == UNFORCED else first, least)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Translate a batch from beginning to end, in rows of its own."""
        return translated(self.open_rows(), sessions, batch)

    def open_rows(self) -> TranslationRows:
        """Return rows with nobody in them."""
        return TranslationRows(self._feeds, DecodeBatch(self.rules))

    def rows_for(self, work: PreparedItem) -> int:
        """Return the number of beams."""
        return cast(Decoding, work.group).num_beams

    def postprocess(self, result: Tensors, item: TranslateItem) -> Translation:
        """Turn tokens into text."""
        return self.texts.translation(result, item)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, whose translation has as many, up to a few."""
        return begun(self.texts.probe(lane, length))

    def _feeds(self, session: Session, batch: Sequence[PreparedItem]) -> Feeds:
        return fitted(self.texts.feeds(batch), session)


def search_rules(rules: TokenRules, forbidden: Sequence[int] = ()) -> SearchRules:
    """Return what searches in flight hold to, beside what their graphs do by themselves.

    Args:
        rules: of the model.
        forbidden: tokens that the step graph never chooses.

    Raises:
        ValueError: a rule cannot be held to in flight, or the graph was made for other ones.
    """
    if problem := _in_flight_problem(rules):
        raise ValueError(problem)
    bans = replace(rules.bans, suppressed=rules.suppressed)
    if strange := sorted(set(forbidden) - set(bans.always)):
        raise ValueError(
            f"the step graph never writes {', '.join(map(str, strange))}, which the rules allow: "
            "export it again"
        )
    return SearchRules(
        rules.start_id,
        rules.eos_ids,
        forced_first_id=rules.forced_bos_id,
        forced_last_id=rules.forced_eos_id,
        early_stopping=rules.early_stopping,
        bans=TokenBans(
            bans.no_repeat_ngram_size,
            tuple(word for word in bans.bad_words if word[0] not in forbidden or len(word) > 1),
            tuple(token for token in bans.suppressed if token not in forbidden),
        ),
        repetition_penalty=rules.repetition_penalty,
    )


def _graph_problem(parameters: EncoderDecoderStepsParameters) -> str | None:
    """Return why a step graph's probabilities are not those that the rules ask for."""
    rules, forbidden = parameters.rules, parameters.forbidden
    others = {*rules.bans.always, *rules.suppressed} - {*forbidden}
    if rules.renormalize == parameters.renormalized or not (forbidden or others):
        return None
    said = "set" if rules.renormalize else "not set"
    return f"rules.renormalize is {said}, and the step graph was made otherwise: export it again"


def _in_flight_problem(rules: TokenRules) -> str | None:
    """Return why a step graph's few candidates do not suffice for these rules."""
    if len(rules.eos_ids) > 1:
        return "eos_ids must be one id: a step graph ends by one token"
    for key in (
        "suppressed_first",
        "encoder_no_repeat_ngram_size",
        "sequence_bias",
        "exponential_decay",
    ):
        if getattr(rules, key):
            return f"{key} is not served in flight: export without step graphs"
    looks_back = rules.bans.looks_back or rules.repetition_penalty != 1
    if rules.renormalize and (looks_back or rules.min_length > 1):
        return (
            "renormalize beside rules that depend on what was written is not served in flight: "
            "export without step graphs"
        )
    return None


def _searched(work: PreparedItem, first_id: int | None, least: int) -> PreparedItem:
    decoding = cast(Decoding, work.group)._replace(first_id=first_id, min_new_tokens=least)
    return PreparedItem(work.tensors, work.lane, work.length, decoding)
