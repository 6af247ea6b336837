"""Translations that run together, each at a step of its own, and the cache row of each hypothesis.

Rows in use are always the first ones. Before every step each hypothesis gets a row: its parent's
if possible, so that nothing is copied; a new sentence gets a free row; rows behind a gap move into
it. When a row moves, only the places that differ from the target row are copied: the beams of a
sentence share most of their past.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import InferenceError
from service.families.translation.kv_cache import Chosen, KVCache
from service.families.translation.search import open_search
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import Decoding, Finished, Ints, LogProbs
from service.families.translation.search.sequences import SearchBatch
from service.types import DeviceValue, Sessions

_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class PrefillBatch:
    """Sentences that were encoded together."""

    keys: Sequence[Hashable]
    decodings: Sequence[Decoding]
    source_lengths: Sequence[int]
    cross: Mapping[str, DeviceValue]
    """Cross-attention keys and values, in the order of the keys, padded to the longest sentence."""
    padded_length: int


class DecodeBatch:
    """The running translations of one instance. Not thread-safe."""

    def __init__(self, rules: SearchRules) -> None:
        self._rules = rules
        self._cache = KVCache()
        self._searches: dict[int, SearchBatch] = {}  # by number of beams
        self._sentences: set[Hashable] = set()
        self._clock = 0
        self._rows = 0  # of the last step
        self._forget_rows()

    def __repr__(self) -> str:
        return f"<DecodeBatch {len(self._sentences)} sentences in {self.in_use} rows>"

    @property
    def sentences(self) -> int:
        """Return how many sentences are running."""
        return len(self._sentences)

    @property
    def in_use(self) -> int:
        """Return how many rows the next step computes, without those of new sentences."""
        return sum(len(search.tokens) for search in self._searches.values())

    def step(self, sessions: Sessions, joining: Sequence[PrefillBatch] = ()) -> Sequence[Finished]:
        """Add new sentences, decode one more token of every sentence, return who is finished.

        Raises:
            DeviceMemoryError, InferenceError: the step failed; `reset` before the next one.
        """
        if joining or self._cache.is_full or not self._stands_still():
            self._rows = self._assign_rows(sessions, joining)
        else:
            self._set_tokens()
        running = [search for search in self._searches.values() if len(search)]
        candidates = max(search.candidates for search in running)
        chosen = self._cache.step(sessions, self._rows, candidates)
        self._cache.advance(self._rows)
        self._unnoted += 1
        finished: list[Finished] = []
        for search in running:
            finished += search.advance(chosen.ids, _scores(search, chosen))
        self._sentences -= {done.key for done in finished}
        return finished

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences; their rows are free at the next step."""
        self._sentences -= keys
        for search in self._searches.values():
            if len(search):
                search.drop(keys)

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return the text so far of every sentence's best hypothesis."""
        return [line for search in self._searches.values() for line in search.progress()]

    def reset(self) -> None:
        """Forget all sentences, and release the device's memory."""
        self._cache = KVCache()
        self._searches.clear()
        self._sentences.clear()
        self._rows = 0
        self._forget_rows()

    def _forget_rows(self) -> None:
        # [rows, places]: which token of which step is cached there
        self._nodes = np.full((0, 0), _NONE)
        # [rows]: the sentence whose source each row holds
        self._readers = np.full(0, _NONE)
        # The last tokens of every row that are not in `_nodes` yet
        self._unnoted = 0

    def _stands_still(self) -> bool:
        """Tell whether every hypothesis continues in its row, so that no row is assigned."""
        running = [search for search in self._searches.values() if len(search)]
        return self.in_use == self._rows and all(search.stands_still for search in running)

    def _set_tokens(self) -> None:
        """Make the last token of every hypothesis the input of the step."""
        for search in self._searches.values():
            if len(search):
                self._cache.tokens[search.rows] = search.tokens

    def _assign_rows(self, sessions: Sessions, joining: Sequence[PrefillBatch]) -> int:
        """Give every hypothesis a row for the next step; return how many rows are in use."""
        self._note_written()
        parents = np.concatenate(
            [np.zeros(0, np.int64), *(search.parents for search in self._searches.values())]
        )
        total = len(parents) + sum(len(group.keys) for group in joining)
        self._reserve(sessions, parents, total, joining)
        rows, free = assigned(parents, total)
        self._move(sessions, parents, rows)
        self._place(rows)
        for group in joining:
            self._join(sessions, group, free[: len(group.keys)])
            free = free[len(group.keys) :]
        return total

    def _reserve(
        self, sessions: Sessions, parents: Ints, rows: int, joining: Sequence[PrefillBatch]
    ) -> None:
        """Enlarge the cache, before anything changes."""
        cache = self._cache
        written = int(cache.positions[parents].max(initial=0)) + 1
        source = max((group.padded_length for group in joining), default=1)
        # A row may have to move from behind the last one that is in use.
        rows = max(rows, int(parents.max(initial=0)) + 1)
        cache.reserve(sessions, rows, written, source)
        shape = (cache.size.rows, cache.size.self_length)
        if shape != self._nodes.shape:
            nodes, readers = np.full(shape, _NONE), np.full(shape[0], _NONE)
            known = self._nodes.shape
            kept = np.arange(known[1]) < cache.positions[: known[0], None]
            nodes[: known[0], : known[1]] = np.where(kept, self._nodes, _NONE)
            readers[: known[0]] = self._readers
            self._nodes, self._readers = nodes, readers

    def _move(self, sessions: Sessions, parents: Ints, rows: Ints) -> None:
        """Copy what the parents have cached to the rows."""
        cache = self._cache
        changed = rows != parents
        if not changed.any():
            return
        start, end = parents[changed], rows[changed]
        lengths = cache.positions[start]
        same = self._nodes[start] == self._nodes[end]
        places = np.arange(same.shape[1])
        which, place = np.nonzero(~same & (places < lengths[:, None]))
        own = (_pairs(start[which], place), _pairs(end[which], place))
        moved = np.flatnonzero(self._readers[start] != self._readers[end])
        read = cache.source_lengths[start[moved]]
        which = np.repeat(moved, read)
        place = np.arange(len(which)) - np.repeat(np.cumsum(read) - read, read)
        cross = (_pairs(start[which], place), _pairs(end[which], place))
        cache.move(sessions, own, cross)
        for array in (self._nodes, self._readers, cache.positions, cache.source_lengths):
            array[end] = array[start]

    def _place(self, rows: Ints) -> None:
        """Tell the searches their rows, and the step the last token of each row."""
        begin = 0
        for search in self._searches.values():
            end = begin + len(search.tokens)
            own = rows[begin:end]
            self._cache.tokens[own] = search.tokens
            search.place(own)
            begin = end

    def _join(self, sessions: Sessions, group: PrefillBatch, rows: Ints) -> None:
        cache = self._cache
        cache.join(sessions, group.cross, rows)
        cache.tokens[rows] = self._rules.start_id
        cache.positions[rows] = 0
        cache.source_lengths[rows] = group.source_lengths
        self._sentences.update(group.keys)
        for key, decoding, row in zip(group.keys, group.decodings, rows.tolist(), strict=True):
            self._clock += 1
            self._readers[row] = self._clock
            search = self._searches.get(decoding.num_beams)
            if search is None:
                search = open_search(decoding.num_beams, self._rules)
                self._searches[decoding.num_beams] = search
            search.add(key, decoding, row)

    def _note_written(self) -> None:
        """Number every token that was cached since the last call; no two have the same number."""
        rows, steps = self._rows, self._unnoted
        if not steps:
            return
        places = self._cache.positions[:rows, None] - np.arange(steps, 0, -1)
        numbers = self._clock + 1 + np.arange(rows * steps).reshape(rows, steps)
        self._nodes[np.arange(rows)[:, None], places] = numbers
        self._clock += rows * steps
        self._unnoted = 0


def _scores(search: SearchBatch, chosen: Chosen) -> LogProbs:
    """Return what a search chooses by: log-probabilities, or the scores before these.

    Raises:
        InferenceError: it needs the scores, and the graph does not return them.
    """
    if not search.needs_scores:
        return chosen.logprobs
    if chosen.scores is None:
        raise InferenceError(
            "greedy search with a repetition penalty needs the output scores, which this step "
            "graph does not have: export it again"
        )
    return chosen.scores


def assigned(parents: Ints, total: int) -> tuple[Ints, Ints]:
    """Return a row for each hypothesis, and the free rows, of `total` rows.

    A hypothesis keeps its parent's row if that is among them and no sibling before it took it.
    """
    if len(parents) == total and (parents == np.arange(total)).all():
        return parents, parents[:0]
    order = np.arange(len(parents))
    first = np.zeros(parents.max(initial=0) + 1, np.int64)
    first[parents[::-1]] = order[::-1]  # the last of several assignments to one place wins
    stays = (first[parents] == order) & (parents < total)
    free = np.ones(total, np.bool_)
    free[parents[stays]] = False
    left = np.flatnonzero(free)
    rows = parents.copy()
    movers = np.flatnonzero(~stays)
    rows[movers] = left[: len(movers)]
    return rows, left[len(movers) :]


def _pairs(rows: Ints, places: Ints) -> Ints:
    return np.ascontiguousarray(np.stack([rows, places], axis=1), np.int64)
