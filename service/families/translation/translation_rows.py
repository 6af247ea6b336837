"""Translations in progress: works read together, rows of the decoder's caches, results."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from service.engine.inflight.policy import alike
from service.engine.inflight.scheduler import Key
from service.families.translation.decode_batch import DecodeBatch, PrefillBatch
from service.families.translation.options import result_of
from service.families.translation.search.decoding import Decoding, Finished, Hypothesis
from service.types import Feeds, PreparedItem, Session, Sessions, Tensors

ENCODER = "encoder"
SESSIONS = (ENCODER, "join", "step", "move")
"""The graphs of a translator that is batched in flight, as `models.export` makes them."""

FeedsFor: TypeAlias = Callable[[Session, Sequence[PreparedItem]], Feeds]

_PROBED_STEPS = 8
_MOST_PADDING = 0.2
"""Share of the encoder's cost that reading sentences together may waste."""


class TranslationRows:
    """Translations in progress. Satisfies `service.engine.inflight.scheduler.Rows`."""

    def __init__(self, feeds: FeedsFor, rows: DecodeBatch) -> None:
        """Make rows with nobody in them; `feeds` are those of the encoder for some works."""
        self._feeds, self._rows = feeds, rows
        self._works: dict[Key, PreparedItem] = {}
        self._newcomers: list[PrefillBatch] = []

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

    def begin(self, sessions: Sessions, works: Mapping[Key, PreparedItem]) -> None:
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
            key: result_of([Hypothesis(ids, False)], self._works[key])
            for key, ids in self._rows.progress()
            if key in keys
        }

    def _read(self, sessions: Sessions, works: Mapping[Key, PreparedItem]) -> PrefillBatch:
        batch = list(works.values())
        session = sessions[ENCODER]
        feeds = self._feeds(session, batch)
        _, cross = session.run_kept(feeds, host=())
        lengths = [work.length for work in batch]
        decodings = [cast(Decoding, work.group) for work in batch]
        return PrefillBatch(list(works), decodings, lengths, cross, max(lengths))

    def _result(self, done: Finished) -> Tensors:
        return result_of(done.found, self._works.pop(done.key))


def translated(
    rows: TranslationRows, sessions: Sessions, batch: Sequence[PreparedItem]
) -> list[Tensors]:
    """Translate a batch from beginning to end, in rows with nobody else in them."""
    rows.begin(sessions, dict(enumerate(batch)))
    found: dict[Key, Tensors] = {}
    while rows.count:
        found.update(rows.step(sessions))
    return [found[index] for index in range(len(batch))]


def begun(probe: PreparedItem) -> PreparedItem:
    """Return a work for warm-up whose translation ends after a few steps.

    In flight nobody waits for the end of another's translation: what a batch takes from beginning
    to end, which may be minutes, decides nothing.
    """
    decoding = Decoding(*cast(Decoding, probe.group))
    steps = min(decoding.max_new_tokens, _PROBED_STEPS)
    few = decoding._replace(max_new_tokens=steps, min_new_tokens=steps)
    return PreparedItem(probe.tensors, probe.lane, probe.length, few)
