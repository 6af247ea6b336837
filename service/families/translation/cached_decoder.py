"""The decoder graphs that Optimum writes, step by step, with the key-value cache they have.

A cache stays on the device for as long as its rows stay the same, as they do in greedy search
until a sentence ends. Rows are chosen anew on the host, for these graphs have no input for it.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError
from service.families.translation.search.decoding import Ints, LogProbs
from service.families.translation.search.logits import LogitsSearch
from service.types import DeviceValue, Feed, Session, Sessions

CacheKind: TypeAlias = Literal["merged", "pair", "none"]
"""One graph for the first step and the others; one for each; or one without a cache."""

ENCODER, DECODER, DECODER_WITH_PAST = "encoder", "decoder", "decoder_with_past"

SESSIONS: Mapping[CacheKind, tuple[str, ...]] = {
    "merged": (ENCODER, DECODER),
    "pair": (ENCODER, DECODER, DECODER_WITH_PAST),
    "none": (ENCODER, DECODER),
}

_BRANCH = "use_cache_branch"
_PAST, _PRESENT = "past_key_values.", "present."
_OF_ENCODER = ".encoder."


class CachedDecoder:
    """Runs a batch's decoder steps. Lives for one batch, on one thread."""

    def __init__(self, sessions: Sessions, kind: CacheKind, known: Mapping[str, Feed]) -> None:
        """Begin a batch.

        Args:
            sessions: those of SESSIONS[kind].
            kind: which graphs there are.
            known: `encoder_hidden_states` and `encoder_attention_mask`, a row a sentence.
        """
        self._sessions, self._kind = sessions, kind
        self._known = dict(known)
        """What a row keeps for as long as it runs: also what the first step makes of it."""
        self._past: dict[str, Feed] = {}
        self._sentences: Ints | None = None

    def logits(self, search: LogitsSearch) -> LogProbs:
        """Run the step that the search is at: float32 [N, V] of its rows' next tokens.

        Raises:
            InferenceError: the graph failed, or is not one of its kind.
        """
        self._follow(search)
        is_first = search.history.shape[1] == 1
        has_past = self._kind != "none" and not is_first
        name = DECODER_WITH_PAST if has_past and self._kind == "pair" else DECODER
        session = self._sessions[name]
        ids = search.history if self._kind == "none" else search.history[:, -1:]
        feeds = {**self._known, **self._past, "input_ids": ids, _BRANCH: np.array([has_past])}
        if not has_past:
            feeds |= dict(_no_past(session, len(ids)))
        outputs, present = session.run_kept(dict(_asked_for(session, feeds)), {"logits"})
        if self._kind != "none":
            self._keep(present, is_first)
        logits = np.ascontiguousarray(outputs["logits"][:, -1], np.float32)
        if np.isnan(logits).any():
            raise InferenceError("the decoder gives a logit that is not a number")
        return logits

    def _follow(self, search: LogitsSearch) -> None:
        """Let the caches have the search's rows, in its order."""
        before, rows = self._sentences, search.beam_idx
        self._sentences = search.sentence_idx
        if before is None:
            return
        if not np.array_equal(before, search.sentence_idx):
            self._known = {name: _rows(value, rows) for name, value in self._known.items()}
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
            elif is_first:  # it never changes, and later steps give none or an empty one
                self._known[fed_as] = value
        self._past = past


def _rows(value: Feed, rows: Ints) -> NDArray[np.generic]:
    array = value if isinstance(value, np.ndarray) else value.numpy()
    chosen: NDArray[np.generic] = array[rows]
    return chosen


def _no_past(session: Session, rows: int) -> Iterator[tuple[str, Feed]]:
    """Yield an empty cache for a graph that wants one even where it does not look at it."""
    for name, spec in session.inputs.items():
        if name.startswith(_PAST):
            _, heads, _, width = spec.shape
            yield name, np.zeros((rows, heads or 1, 0, width or 1), spec.dtype)


def _asked_for(session: Session, feeds: Mapping[str, Feed]) -> Iterator[tuple[str, Feed]]:
    for name, spec in session.inputs.items():
        if name not in feeds:
            raise InferenceError(f"the decoder wants {name!r}, which this family does not feed")
        value = feeds[name]
        if isinstance(value, np.ndarray):
            value = value.astype(spec.dtype, copy=False)
        yield name, value
