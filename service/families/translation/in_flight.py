"""Encoder-decoder models whose texts join and leave a running batch at any step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import override

from service.engine.inflight.scheduler import Key
from service.families.family import LANE, Opened
from service.families.text_input import fitted
from service.families.translation.decode_batch import DecodeBatch, PrefillBatch
from service.families.translation.generator import GeneratorParameters, GeneratorProcessor
from service.families.translation.options import result_of
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import Decoding, Finished, Hypothesis
from service.families.translation.search.rules import UNFORCED, TokenBans, TokenRules
from service.families.translation.sequences import SequenceProcessor
from service.families.translation.texts import TranslatorParameters, TranslatorProcessor
from service.tasks import GenerateItem, Generation, TranslateItem, Translation
from service.types import Feeds, Lane, Model, PreparedItem, Session, Sessions, Tensors

_ENCODER = "encoder"
_IN_PLACE = frozenset({"join", "step", "move"})
_SESSIONS = (_ENCODER, "join", "step", "move")

_PROBED_STEPS = 8
# Share of the encoder's cost that padding may take when sentences are encoded together.
_MOST_PADDING = 0.2


@dataclass(frozen=True, slots=True)
class EncoderDecoderStepsParameters(TranslatorParameters):
    """The manifest's `[parameters]`: those of all translators, and rules inside the step graph."""

    forbidden: tuple[int, ...] = ()
    """Tokens that the step graph never chooses; those that the rules forbid always."""
    renormalized: bool = False
    """Whether the step graph's probabilities are of the other tokens alone."""


@dataclass(frozen=True, slots=True)
class GeneratorStepsParameters(GeneratorParameters):
    """The manifest's `[parameters]`: those of all generators, and rules inside the step graph."""

    forbidden: tuple[int, ...] = ()
    """Tokens that the step graph never chooses; those that the rules forbid always."""
    renormalized: bool = False
    """Whether the step graph's probabilities are of the other tokens alone."""


def open_encoder_decoder_steps(
    folder: Path, parameters: EncoderDecoderStepsParameters
) -> Opened[TranslateItem, Translation]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    rules = _served_rules(parameters)
    processor = TranslatorProcessor.open(folder, parameters)
    model = EncoderDecoderStepsModel(processor, rules, parameters.rules.min_length)
    return Opened(processor, model, replace(processor.traits(model), in_place=_IN_PLACE))


def open_generator_steps(
    folder: Path, parameters: GeneratorStepsParameters
) -> Opened[GenerateItem, Generation]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    rules = _served_rules(parameters)
    processor = GeneratorProcessor.open(folder, parameters)
    model = EncoderDecoderStepsModel(processor, rules, parameters.rules.min_length)
    return Opened(processor, model, replace(processor.traits(model), in_place=_IN_PLACE))


@dataclass(frozen=True, slots=True, eq=False)
class EncoderDecoderStepsModel(Model):
    """Graphs `encoder`, `join`, `step` and `move`, as `models.export` makes them.

    Tokens are those of `generate` in transformers under the same generation_config.json; nothing
    is sampled. Satisfies `service.engine.inflight.scheduler.InFlight`.
    """

    processor: SequenceProcessor[Any, Any]
    rules: SearchRules
    min_length: int
    """Of what is written, the start token counted."""

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(LANE, self.processor.lengths, _SESSIONS)]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        return translated(self.open_rows(), sessions, batch)

    def open_rows(self) -> "TranslationRows":
        """Return the rows of an instance, all free."""
        least = max(self.min_length - 1, 0)  # without the start token
        return TranslationRows(self._feeds, DecodeBatch(self.rules), least)

    def rows_for(self, prepared: PreparedItem) -> int:
        """Return the number of beams."""
        return Decoding.of(prepared).num_beams

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of this many tokens, whose translation ends after a few steps.

        In flight no sentence waits for the end of another, so the time of a whole translation,
        which may be minutes, decides nothing.
        """
        probe = self.processor.probe(lane, length)
        decoding = Decoding.of(probe)
        steps = min(decoding.max_new_tokens, _PROBED_STEPS)
        few = decoding._replace(max_new_tokens=steps, min_new_tokens=steps)
        return PreparedItem(probe.tensors, lane, length, few)

    def _feeds(self, session: Session, batch: Sequence[PreparedItem]) -> Feeds:
        return fitted(self.processor.feeds(batch), session)


class TranslationRows:
    """The running translations of an instance. Satisfies `engine.inflight.scheduler.Rows`."""

    def __init__(self, feeds: "FeedsFor", rows: DecodeBatch, least: int) -> None:
        """Start without translations.

        Args:
            feeds: makes the encoder's inputs for prepared items.
            rows: of the decoder.
            least: tokens before the end token of every translation.
        """
        self._feeds, self._rows, self._least = feeds, rows, least
        self._prepared: dict[Key, PreparedItem] = {}
        self._joining: list[PrefillBatch] = []

    def __repr__(self) -> str:
        return f"<TranslationRows {self._rows}, {len(self._joining)} groups joining>"

    @property
    def count(self) -> int:
        """Return how many translations are in progress."""
        return len(self._prepared)

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes."""
        return self._rows.in_use + sum(len(group.keys) for group in self._joining)

    def prefill(self, sessions: Sessions, items: Mapping[Key, PreparedItem]) -> None:
        """Encode sentences, those of about the same length together. Raises ServiceError."""
        keys = list(items)
        groups = grouped_by_length([items[key].length for key in keys], _MOST_PADDING)
        joining = [
            self._prefill(sessions, {keys[index]: items[keys[index]] for index in group})
            for group in groups
        ]
        self._joining += joining
        self._prepared.update(items)

    def step(self, sessions: Sessions) -> Mapping[Key, Tensors]:
        """Decode one more token of every translation. Raises ServiceError."""
        finished = self._rows.step(sessions, self._joining)
        self._joining = []
        return {done.key: self._result(done) for done in finished}

    def drop(self, keys: frozenset[Key]) -> None:
        """Forget translations."""
        for key in keys:
            self._prepared.pop(key, None)
        self._rows.drop(keys)

    def reset(self) -> None:
        """Forget all translations, and release memory."""
        self._prepared.clear()
        self._joining = []
        self._rows.reset()

    def progress(self, keys: frozenset[Key]) -> Mapping[Key, Tensors]:
        """Return these translations as far as they are, as results."""
        return {
            key: result_of([Hypothesis(ids, False)], self._prepared[key])
            for key, ids in self._rows.progress()
            if key in keys
        }

    def decoding(self, prepared: PreparedItem) -> Decoding:
        """Return the options of a prepared item's search, with what the rules add to them."""
        decoding, first = Decoding.of(prepared), int(prepared.tensors["first_id"])
        return decoding._replace(
            first_id=None if first == UNFORCED else first,
            min_new_tokens=max(decoding.min_new_tokens, self._least),
        )

    def _prefill(self, sessions: Sessions, works: Mapping[Key, PreparedItem]) -> PrefillBatch:
        batch = list(works.values())
        session = sessions[_ENCODER]
        _, cross = session.run_kept(self._feeds(session, batch), host=())
        lengths = [prepared.length for prepared in batch]
        decodings = [self.decoding(prepared) for prepared in batch]
        return PrefillBatch(list(works), decodings, lengths, cross, max(lengths))

    def _result(self, done: Finished) -> Tensors:
        return result_of(done.found, self._prepared.pop(done.key))


FeedsFor: TypeAlias = Callable[[Session, Sequence[PreparedItem]], Feeds]


def translated(
    rows: TranslationRows, sessions: Sessions, batch: Sequence[PreparedItem]
) -> list[Tensors]:
    """Translate a batch to its end, in rows without other translations."""
    rows.prefill(sessions, dict(enumerate(batch)))
    found: dict[Key, Tensors] = {}
    while rows.count:
        found.update(rows.step(sessions))
    return [found[index] for index in range(len(batch))]


def search_rules(rules: TokenRules, forbidden: Sequence[int] = ()) -> SearchRules:
    """Return the rules that searches apply in addition to those inside the step graph.

    Args:
        rules: the model's.
        forbidden: tokens that the step graph never chooses.

    Raises:
        ValueError: a rule cannot be applied in flight, or the graph was exported with others.
    """
    if problem := _in_flight_problem(rules):
        raise ValueError(problem)
    bans = replace(rules.bans, suppressed=rules.suppressed)
    if unknown := sorted(set(forbidden) - set(bans.always)):
        raise ValueError(
            f"the step graph never writes {', '.join(map(str, unknown))}, which the rules allow: "
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


def _served_rules(parameters: "_StepsParameters") -> SearchRules:
    """Return the rules of a search with the step graph. Raises ValueError."""
    rules = search_rules(parameters.rules, parameters.forbidden)
    if problem := _graph_problem(parameters):
        raise ValueError(problem)
    return rules


_StepsParameters: TypeAlias = EncoderDecoderStepsParameters | GeneratorStepsParameters


def _graph_problem(parameters: _StepsParameters) -> str | None:
    """Return why the rules need other probabilities than the step graph's."""
    rules, forbidden = parameters.rules, parameters.forbidden
    others = {*rules.bans.always, *rules.suppressed} - {*forbidden}
    if rules.renormalize == parameters.renormalized or not (forbidden or others):
        return None
    state = "set" if rules.renormalize else "not set"
    return f"rules.renormalize is {state}, and the step graph was made otherwise: export it again"


def _in_flight_problem(rules: TokenRules) -> str | None:
    """Return why the few candidates of a step graph are not enough for these rules."""
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
            "renormalize together with rules that look back is not served in flight: "
            "export without step graphs"
        )
    return None


def grouped_by_length(lengths: Sequence[int], most_padding: float) -> list[list[int]]:
    """Group items to prefill together, so that at most a share of the cost is padding.

    Returns:
        Groups of indices, the shortest first; within a group by length.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups: list[list[int]] = []
    total = 0
    for index in order:
        total += lengths[index]
        padded = (len(groups[-1]) + 1) * lengths[index] if groups else 0
        if groups and padded - total <= most_padding * padded:
            groups[-1].append(index)
        else:
            groups.append([index])
            total = lengths[index]
    return groups
