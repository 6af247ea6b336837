"""Encoder-decoder models as Optimum exports them: a batch runs until its longest text ends."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.family import LANE, Opened
from service.families.text_input import fitted
from service.families.translation.generator import GeneratorParameters, GeneratorProcessor
from service.families.translation.options import result_of
from service.families.translation.search.decoding import Decoding, Ints, LogProbs
from service.families.translation.search.logits import LogitsSearch
from service.families.translation.search.rules import Texts, TokenRules
from service.families.translation.sequences import SequenceProcessor
from service.families.translation.texts import TranslatorParameters, TranslatorProcessor
from service.tasks import GenerateItem, Generation, TranslateItem, Translation
from service.types import DeviceValue, Feed, Lane, Model, PreparedItem, Session, Sessions, Tensors

CacheKind: TypeAlias = Literal["merged", "pair", "none"]
"""One graph for the first step and the others; one for each; or one without a cache."""

_ENCODER, _DECODER, _DECODER_WITH_PAST = "encoder", "decoder", "decoder_with_past"
_SESSIONS: Mapping[CacheKind, tuple[str, ...]] = {
    "merged": (_ENCODER, _DECODER),
    "pair": (_ENCODER, _DECODER, _DECODER_WITH_PAST),
    "none": (_ENCODER, _DECODER),
}

_STATES = "last_hidden_state"
_BRANCH = "use_cache_branch"
_PAST, _PRESENT = "past_key_values.", "present."
_OF_ENCODER = ".encoder."


@dataclass(frozen=True, slots=True)
class EncoderDecoderParameters(TranslatorParameters):
    """The manifest's `[parameters]`: those of all translators, and the kind of decoder cache."""

    cache: CacheKind = "merged"
    """How the decoder graphs pass on what they have computed."""


@dataclass(frozen=True, slots=True)
class GeneratorGraphsParameters(GeneratorParameters):
    """The manifest's `[parameters]`: those of all generators, and the kind of decoder cache."""

    cache: CacheKind = "merged"
    """How the decoder graphs pass on what they have computed."""


def open_encoder_decoder(
    folder: Path, parameters: EncoderDecoderParameters
) -> Opened[TranslateItem, Translation]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    processor = TranslatorProcessor.open(folder, parameters)
    model = EncoderDecoderModel(parameters.rules, parameters.cache, processor)
    return Opened(processor, model, processor.traits())


def open_generator(
    folder: Path, parameters: GeneratorGraphsParameters
) -> Opened[GenerateItem, Generation]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    processor = GeneratorProcessor.open(folder, parameters)
    model = EncoderDecoderModel(parameters.rules, parameters.cache, processor)
    return Opened(processor, model, processor.traits())


@dataclass(frozen=True, slots=True, eq=False)
class EncoderDecoderModel(Model):
    """Graphs `encoder`, `decoder` and, for cache "pair", `decoder_with_past`.

    Inputs and outputs are those that Optimum gives them. Tokens are those of `generate` in
    transformers under the same generation_config.json; nothing is sampled.
    """

    rules: TokenRules
    cache: CacheKind
    processor: SequenceProcessor[Any, Any]

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(LANE, self.processor.lengths, _SESSIONS[self.cache])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        encoder = sessions[_ENCODER]
        feeds = self.processor.feeds(batch)
        _, states = encoder.run_kept(fitted(feeds, encoder), host=())
        constants: dict[str, Feed] = {
            "encoder_hidden_states": states[_STATES],
            "encoder_attention_mask": feeds["attention_mask"],
        }
        decoder = _Decoder(sessions, self.cache, constants)
        rules = self.rules
        forced = rules.first_tokens(np.array([prepared.tensors["first_id"] for prepared in batch]))
        sources = [prepared.tensors["input_ids"] for prepared in batch]
        search = LogitsSearch(Decoding.of(batch[0]), rules, Texts(forced, sources))
        while not search.is_finished:
            search.advance(decoder.logits(search))
        found = zip(search.results(), batch, strict=True)
        return [result_of(hypotheses, prepared) for hypotheses, prepared in found]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.processor.probe(lane, length)


class _Decoder:
    """Runs the decoder steps of one batch, on one thread.

    The cache stays on the device as long as the rows stay the same, as in greedy search until a
    sentence ends. Rows are selected on the host, since these graphs have no input for that.
    """

    def __init__(self, sessions: Sessions, kind: CacheKind, constants: Mapping[str, Feed]) -> None:
        """Start a batch; `constants` are the encoder's states and mask, one row a sentence."""
        self._sessions, self._kind = sessions, kind
        # What a row keeps for as long as it runs; also what the first step derives from it.
        self._constants = dict(constants)
        self._past: dict[str, Feed] = {}
        self._sentences: Ints | None = None

    def logits(self, search: LogitsSearch) -> LogProbs:
        """Run the search's next step; return the logits of its rows' next tokens, float32 [N, V].

        Raises:
            InferenceError: the graph failed, or is not one of its kind.
        """
        self._select_rows(search)
        is_first = search.history.shape[1] == 1
        has_past = self._kind != "none" and not is_first
        name = _DECODER_WITH_PAST if has_past and self._kind == "pair" else _DECODER
        session = self._sessions[name]
        ids = search.history if self._kind == "none" else search.history[:, -1:]
        feeds = {**self._constants, **self._past, "input_ids": ids, _BRANCH: np.array([has_past])}
        if not has_past:
            feeds |= dict(_empty_past(session, len(ids)))
        outputs, present = session.run_kept(dict(_inputs_of(session, feeds)), {"logits"})
        if self._kind != "none":
            self._keep(present, is_first)
        logits = np.ascontiguousarray(outputs["logits"][:, -1], np.float32)
        if np.isnan(logits).any():
            raise InferenceError("the decoder gives a logit that is not a number")
        return logits

    def _select_rows(self, search: LogitsSearch) -> None:
        """Make the cache's rows those of the search, in its order."""
        before, rows = self._sentences, search.beam_idx
        self._sentences = search.sentence_idx
        if before is None:
            return
        if not np.array_equal(before, search.sentence_idx):
            self._constants = {name: _rows(value, rows) for name, value in self._constants.items()}
        if not np.array_equal(rows, np.arange(len(before))):
            self._past = {name: _rows(value, rows) for name, value in self._past.items()}

    def _keep(self, present: Mapping[str, DeviceValue], is_first: bool) -> None:
        past: dict[str, Feed] = {}
        for name, value in present.items():
            if not name.startswith(_PRESENT):
                continue
            fed_as = _PAST + name.removeprefix(_PRESENT)
            if _OF_ENCODER not in name:
                past[fed_as] = value
            elif is_first:  # it never changes, and later steps return none or an empty one
                self._constants[fed_as] = value
        self._past = past


def _rows(value: Feed, rows: Ints) -> NDArray[np.generic]:
    array = value if isinstance(value, np.ndarray) else value.numpy()
    chosen: NDArray[np.generic] = array[rows]
    return chosen


def _empty_past(session: Session, rows: int) -> Iterator[tuple[str, Feed]]:
    """Yield an empty cache for a graph that requires one even where it does not use it."""
    for name, spec in session.inputs.items():
        if name.startswith(_PAST):
            _, heads, _, width = spec.shape
            yield name, np.zeros((rows, heads or 1, 0, width or 1), spec.dtype)


def _inputs_of(session: Session, feeds: Mapping[str, Feed]) -> Iterator[tuple[str, Feed]]:
    for name, spec in session.inputs.items():
        if name not in feeds:
            raise InferenceError(f"the decoder wants {name!r}, which this family does not feed")
        value = feeds[name]
        if isinstance(value, np.ndarray):
            value = value.astype(spec.dtype, copy=False)
        yield name, value
