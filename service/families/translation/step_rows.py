"""Many translations at once, each at a step of its own: who is in which row, and what happens next.

Rows in use are always the first ones. Before every step each hypothesis gets a row: its
parent's where it can, so that nothing is copied; a newcomer gets one that has become free; what
would lie behind a gap moves into it. Of a row that must move, only the places that differ from
what is already there are copied: beams of a sentence share most of their past.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError
from service.families.translation.kv_cache import Chosen, Ints, KVCache
from service.families.translation.search.beam import BeamBoard
from service.families.translation.search.boards import Finished, SearchBatch, SearchRules
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.greedy import GreedyBoard
from service.types import DeviceValue, Sessions

_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class PrefillBatch:
    """Sentences that the encoder has read together."""

    keys: Sequence[Hashable]
    decodings: Sequence[Decoding]
    source_lengths: Sequence[int]
    cross: Mapping[str, DeviceValue]
    """What the encoder made of them, in this order, padded to its longest."""
    padded_length: int


class DecodeBatch:
    """The running translations of one instance. Not for several threads at once."""

    def __init__(self, rules: SearchRules) -> None:
        self._rules = rules
        self._caches = KVCache()
        self._boards: dict[int, SearchBatch] = {}
        self._width: dict[Hashable, int] = {}
        """Rows that each sentence may come to take."""
        self._clock = 0
        self._rows = 0
        """How many the last step ran on."""
        self._forget_rows()

    def __repr__(self) -> str:
        return f"<StepRows {len(self._width)} sentences in {self.in_use} rows>"

    @property
    def sentences(self) -> int:
        """Return how many sentences are being translated."""
        return len(self._width)

    @property
    def in_use(self) -> int:
        """Return how many rows the next step will take, newcomers not counted."""
        return sum(len(board.tokens) for board in self._boards.values())

    def step(
        self, sessions: Sessions, newcomers: Sequence[PrefillBatch] = ()
    ) -> Sequence[Finished]:
        """Let newcomers in, write one more token of every sentence, return who is done.

        Raises:
            DeviceMemoryError, InferenceError: the step failed; call `reset` and begin anew.
        """
        if newcomers or self._caches.is_full or not self._stands_still():
            self._rows = self._settle(sessions, newcomers)
        else:
            self._hand_over_tokens()
        candidates = max(board.candidates for board in self._boards.values() if len(board))
        chosen = self._caches.step(sessions, self._rows, candidates)
        self._caches.advance(self._rows)
        self._unnoted += 1
        finished: list[Finished] = []
        for board in self._boards.values():
            if len(board):
                finished += board.advance(chosen.ids, self._judged_by(board, chosen))
        for done in finished:
            del self._width[done.key]
        return finished

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences; their rows are free at the next step."""
        for key in keys:
            self._width.pop(key, None)
        for board in self._boards.values():
            if len(board):
                board.drop(keys)

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here."""
        return [line for board in self._boards.values() for line in board.progress()]

    def reset(self) -> None:
        """Forget everything, and give the device's memory back."""
        self._caches.forget()
        self._boards.clear()
        self._width.clear()
        self._rows = 0
        self._forget_rows()

    def _judged_by(self, board: SearchBatch, chosen: Chosen) -> NDArray[np.float32]:
        """Return what a board chooses by: log-probabilities, or the scores before these.

        Raises:
            InferenceError: it needs the latter, and the graph does not give them.
        """
        if not board.wants_scores:
            return chosen.logprobs
        if chosen.scores is None:
            raise InferenceError(
                "greedy search with a repetition penalty needs the output scores, which this step "
                "graph does not have: export it again"
            )
        return chosen.scores

    def _forget_rows(self) -> None:
        self._nodes = np.full((0, 0), _NOBODY)
        """[rows, places]: which token of which step is cached there."""
        self._readers = np.full(0, _NOBODY)
        """[rows]: whose source each row reads."""
        self._unnoted = 0
        """How many of the last tokens of every row are not in `_nodes` yet."""

    def _stands_still(self) -> bool:
        """Tell whether everybody goes on where they are, so that nothing must be settled."""
        running = [board for board in self._boards.values() if len(board)]
        return self.in_use == self._rows and all(board.stands_still for board in running)

    def _hand_over_tokens(self) -> None:
        """Tell the step what everybody wrote last."""
        for board in self._boards.values():
            if len(board):
                self._caches.tokens[board.rows] = board.tokens

    def _settle(self, sessions: Sessions, newcomers: Sequence[PrefillBatch]) -> int:
        """Give everybody a row for the next step; return how many rows that are."""
        self._note_written()
        parents = np.concatenate(
            [np.zeros(0, np.int64), *(board.parents for board in self._boards.values())]
        )
        joining = sum(len(group.keys) for group in newcomers)
        total = len(parents) + joining
        self._reserve(sessions, parents, total, newcomers)
        rows, free = assigned(parents, total)
        self._move(sessions, parents, rows)
        self._place(rows)
        for group in newcomers:
            self._join(sessions, group, free[: len(group.keys)])
            free = free[len(group.keys) :]
        return total

    def _reserve(
        self, sessions: Sessions, parents: Ints, rows: int, newcomers: Sequence[PrefillBatch]
    ) -> None:
        """Make room, before anything changes."""
        caches = self._caches
        written = int(caches.positions[parents].max(initial=0)) + 1
        source = max((group.padded_length for group in newcomers), default=1)
        # A row may have to move from behind the last one that is in use.
        rows = max(rows, int(parents.max(initial=0)) + 1)
        caches.reserve(sessions, rows, written, source)
        shape = (caches.room.rows, caches.room.self_length)
        if shape != self._nodes.shape:
            nodes, readers = np.full(shape, _NOBODY), np.full(shape[0], _NOBODY)
            known = self._nodes.shape
            kept = np.arange(known[1]) < caches.positions[: known[0], None]
            nodes[: known[0], : known[1]] = np.where(kept, self._nodes, _NOBODY)
            readers[: known[0]] = self._readers
            self._nodes, self._readers = nodes, readers

    def _move(self, sessions: Sessions, parents: Ints, rows: Ints) -> None:
        """Bring the parents' caches to the rows."""
        caches = self._caches
        changed = rows != parents
        if not changed.any():
            return
        start, end = parents[changed], rows[changed]
        lengths = caches.positions[start]
        same = self._nodes[start] == self._nodes[end]
        places = np.arange(same.shape[1])
        differs = ~same & (places < lengths[:, None])
        which, place = np.nonzero(differs)
        own = (_pairs(start[which], place), _pairs(end[which], place))
        moved = np.flatnonzero(self._readers[start] != self._readers[end])
        read = caches.source_lengths[start[moved]]
        which = np.repeat(moved, read)
        place = np.arange(len(which)) - np.repeat(np.cumsum(read) - read, read)
        cross = (_pairs(start[which], place), _pairs(end[which], place))
        caches.move(sessions, own, cross)
        for array in (self._nodes, self._readers, caches.positions, caches.source_lengths):
            array[end] = array[start]

    def _place(self, rows: Ints) -> None:
        """Tell the boards where their hypotheses are, and the step what they wrote last."""
        begin = 0
        for board in self._boards.values():
            end = begin + len(board.tokens)
            own = rows[begin:end]
            self._caches.tokens[own] = board.tokens
            board.place(own)
            begin = end

    def _join(self, sessions: Sessions, group: PrefillBatch, rows: Ints) -> None:
        caches = self._caches
        caches.join(sessions, group.cross, rows)
        caches.tokens[rows] = self._rules.start_id
        caches.positions[rows] = 0
        caches.source_lengths[rows] = group.source_lengths
        for key, decoding, row in zip(group.keys, group.decodings, rows.tolist(), strict=True):
            self._clock += 1
            self._readers[row] = self._clock
            self._width[key] = decoding.num_beams
            board = self._boards.get(decoding.num_beams)
            if board is None:
                board = self._boards[decoding.num_beams] = _open_board(
                    decoding.num_beams, self._rules
                )
            board.add(key, decoding, row)

    def _note_written(self) -> None:
        """Every token that was cached since the last time is unlike any other."""
        rows, steps = self._rows, self._unnoted
        if not steps:
            return
        places = self._caches.positions[:rows, None] - np.arange(steps, 0, -1)
        names = self._clock + 1 + np.arange(rows * steps).reshape(rows, steps)
        self._nodes[np.arange(rows)[:, None], places] = names
        self._clock += rows * steps
        self._unnoted = 0


def _open_board(num_beams: int, rules: SearchRules) -> SearchBatch:
    """Return an empty board for sentences of so many beams; one is greedy search."""
    return GreedyBoard(rules) if num_beams == 1 else BeamBoard(num_beams, rules)


def assigned(parents: Ints, total: int) -> tuple[Ints, Ints]:
    """Return a row for each hypothesis, and the rows that are left, of `total` rows.

    A hypothesis keeps its parent's row if that is among them and no sibling before it took it.
    """
    if len(parents) == total and (parents == np.arange(total)).all():
        return parents, parents[:0]
    order = np.arange(len(parents))
    first = np.zeros(parents.max(initial=0) + 1, np.int64)
    first[parents[::-1]] = order[::-1]  # of what is assigned to one place the last stays
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
