"""The key-value cache of all running translations, and the graphs that work on it.

A row belongs to a hypothesis: the keys and values of its own tokens (`self.*`) and of its source
(`cross.*`). Rows in use are always the first ones, so a step computes nothing else. The buffers are
preallocated on the device and changed in place; they are doubled when a longer text, or more rows
than ever before, need it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError
from service.families.translation.search.decoding import Ints, LogProbs
from service.types import BindableSession, Buffer, DeviceValue, Sessions, Span

Cache: TypeAlias = NDArray[Any]
"""[rows, heads, places, width]"""


def join(cache: Cache, new: Cache, rows: Ints) -> None:
    """Write new rows, which may be shorter, to rows of a cache."""
    cache[rows, :, : new.shape[2]] = new


def move(caches: Iterable[tuple[Cache, Cache]], start: Ints, end: Ints) -> None:
    """Copy places from old caches to new ones of equal shapes, which may be the same.

    `start` and `end` are pairs of row and place [M, 2]. All places of a cache are read before any
    is written.
    """
    if not len(start):
        return
    read = written = None
    for old, new in caches:
        if read is None or written is None:
            read, written = _lines(old, start), _lines(new, end)
        width = new.shape[3]
        new.reshape(-1, width)[written] = old.reshape(-1, width).take(read, axis=0)


def _lines(cache: Cache, pairs: Ints) -> Ints:
    """Return the indices of places in a cache of shape [rows * heads * places, width]."""
    _, heads, places, _ = cache.shape
    first = pairs[:, 0] * (heads * places) + pairs[:, 1]
    lines: Ints = first[:, None] + np.arange(0, heads * places, places)
    return lines.ravel()


STEP, JOIN, MOVE = "step", "join", "move"
_SCORES = "scores"


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Numbers of rows and of places."""

    rows: int
    self_length: int
    cross_length: int

    def holding(self, other: "CacheSize") -> "CacheSize":
        """Return a size that holds both, by doubling what is too small."""
        return CacheSize(
            _doubled(self.rows, other.rows),
            _doubled(self.self_length, other.self_length),
            _doubled(self.cross_length, other.cross_length),
        )


# On a CPU it takes no memory until it is written to.
_FIRST_SIZE = CacheSize(rows=8, self_length=64, cross_length=64)

# Up to this many lines of width values are copied on the host: running a session costs more.
_MOST_ON_HOST = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The best candidates of each row [rows, candidates], best first."""

    ids: Ints
    logprobs: LogProbs
    scores: LogProbs | None
    """The logits behind the log-probabilities; None from graphs that do not return them."""


class _Inputs:
    """Inputs of the step graph, on the host and always at the same address."""

    def __init__(self, rows: int) -> None:
        self.tokens = np.zeros(rows, np.int64)
        self.positions = np.zeros(rows, np.int32)
        self.source_lengths = np.ones(rows, np.int32)
        self.longest = np.zeros((), np.int32)
        self.longest_source = np.zeros((), np.int32)

    def first(self, rows: int) -> Mapping[str, Span]:
        return {
            "tokens": Span.of(self.tokens[:rows]),
            "positions": Span.of(self.positions[:rows]),
            "source_lengths": Span.of(self.source_lengths[:rows]),
            "longest": Span.of(self.longest),
            "longest_source": Span.of(self.longest_source),
        }


class KVCache:
    """The caches and step inputs of one instance. Not thread-safe."""

    def __init__(self) -> None:
        self._bound: dict[tuple[int, int, int], tuple[Callable[[], None], Chosen]] = {}
        self._buffers: dict[str, Buffer] = {}
        # The same memory, if the host can reach all of it.
        self._arrays: Mapping[str, NDArray[Any]] | None = None
        self._size = _FIRST_SIZE
        self._inputs = _Inputs(_FIRST_SIZE.rows)
        # Length of the longest row of the next step; 0 if not computed yet.
        self._longest = 0

    def __repr__(self) -> str:
        return f"<KVCache {self._size}>"

    @property
    def size(self) -> CacheSize:
        """Return how large the caches are."""
        return self._size

    @property
    def tokens(self) -> Ints:
        """Return the next step's input token of each row; writable."""
        return self._inputs.tokens

    @property
    def positions(self) -> NDArray[np.int32]:
        """Return how many tokens each row has cached; writable."""
        self._longest = 0
        return self._inputs.positions

    @property
    def source_lengths(self) -> NDArray[np.int32]:
        """Return the length of each row's source; writable."""
        self._longest = 0
        return self._inputs.source_lengths

    @property
    def is_full(self) -> bool:
        """Tell whether one more token of the last step's rows may not fit."""
        return not 0 < self._longest <= self._size.self_length

    def reserve(self, sessions: Sessions, rows: int, written: int, source: int) -> None:
        """Enlarge the caches to this many rows, tokens written and source tokens.

        Only places in use are kept.

        Raises:
            DeviceMemoryError: the device does not have the memory.
        """
        wanted = self._size.holding(CacheSize(rows, written, source))
        if wanted == self._size and self._buffers:
            return
        old, old_inputs, used = self._buffers, self._inputs, self._size
        self._buffers = _allocated(_session(sessions, STEP), wanted, old)
        self._arrays = _on_host(self._buffers)
        self._inputs, self._longest = _Inputs(wanted.rows), 0
        for name in ("tokens", "positions", "source_lengths"):
            getattr(self._inputs, name)[: used.rows] = getattr(old_inputs, name)
        self._size = wanted
        self._bound.clear()
        if old:
            is_wider = wanted.rows != used.rows
            moving = is_wider or wanted.self_length != used.self_length
            own = _places(old_inputs.positions[: used.rows * moving], used.self_length)
            moving = is_wider or wanted.cross_length != used.cross_length
            cross = _places(old_inputs.source_lengths[: used.rows * moving], used.cross_length)
            self._move(sessions, old, (own, own), (cross, cross))

    def join(self, sessions: Sessions, cross: Mapping[str, DeviceValue], rows: Ints) -> None:
        """Write the cross-attention keys and values of new sentences to rows."""
        sentences, _, length, _ = next(iter(cross.values())).shape
        if self._arrays is not None and self._fits_host_copy(sentences * length):
            for name, value in cross.items():
                join(self._arrays[name], value.numpy(), rows)
            return
        inputs: dict[str, Span | DeviceValue] = {"rows": Span.of(rows)}
        outputs = {}
        for name, value in cross.items():
            span = self._buffers[name].first(self._size.rows)
            inputs |= {f"new.{name}": value, name: span}
            outputs[f"present.{name}"] = span
        _session(sessions, JOIN).bind(inputs, outputs)()

    def move(self, sessions: Sessions, own: tuple[Ints, Ints], cross: tuple[Ints, Ints]) -> None:
        """Copy places, given as pairs of row and place [M, 2], from the first to the second."""
        if len(own[0]) or len(cross[0]):
            self._move(sessions, self._buffers, own, cross)

    def step(self, sessions: Sessions, rows: int, candidates: int) -> Chosen:
        """Run the first rows; the next step with as many rows overwrites the result."""
        session = _session(sessions, STEP)
        key = (id(session), rows, candidates)
        if key not in self._bound:
            self._bound[key] = self._bind_step(session, rows, candidates)
        run, chosen = self._bound[key]
        if not self._longest:
            inputs = self._inputs
            self._longest = int(inputs.positions[:rows].max()) + 1
            inputs.longest[...] = self._longest
            inputs.longest_source[...] = inputs.source_lengths[:rows].max()
        run()
        return chosen

    def advance(self, rows: int) -> None:
        """Count the token that a step has cached for each of the first rows."""
        self._inputs.positions[:rows] += 1
        self._longest += 1
        self._inputs.longest[...] = self._longest

    def _bind_step(
        self, session: BindableSession, rows: int, candidates: int
    ) -> tuple[Callable[[], None], Chosen]:
        ids, logprobs, scores = np.zeros((3, rows, candidates), np.float32)
        has_scores = _SCORES in session.outputs
        chosen = Chosen(ids.astype(np.int64), logprobs, scores if has_scores else None)
        count = np.array([candidates])
        inputs: dict[str, Span | DeviceValue] = {
            **self._inputs.first(rows),
            "candidates": Span.of(count),
        }
        outputs = {"ids": Span.of(chosen.ids), "logprobs": Span.of(chosen.logprobs)}
        if has_scores:
            outputs[_SCORES] = Span.of(scores)
        for name, buffer in self._buffers.items():
            span = buffer.first(rows)
            inputs[name] = outputs[f"present.{name}"] = span
        return session.bind(inputs, outputs), chosen

    def _move(
        self,
        sessions: Sessions,
        old: Mapping[str, Buffer],
        own: tuple[Ints, Ints],
        cross: tuple[Ints, Ints],
    ) -> None:
        after = self._arrays
        before = after if old is self._buffers else _on_host(old)
        places = max(len(own[0]), len(cross[0]))
        if before is not None and after is not None and self._fits_host_copy(places):
            for kind, (start, end) in (("self", own), ("cross", cross)):
                pairs = ((before[name], after[name]) for name in after if name.startswith(kind))
                move(pairs, start, end)
            return
        inputs: dict[str, Span | DeviceValue] = {}
        for kind, (start, end) in (("self", own), ("cross", cross)):
            inputs |= {f"{kind}_from": Span.of(start), f"{kind}_to": Span.of(end)}
        outputs = {}
        for name, buffer in self._buffers.items():
            span = buffer.first(buffer.shape[0])
            inputs |= {f"old.{name}": old[name].first(old[name].shape[0]), name: span}
            outputs[f"present.{name}"] = span
        _session(sessions, MOVE).bind(inputs, outputs)()

    def _fits_host_copy(self, places: int) -> bool:
        heads = next(iter(self._buffers.values())).shape[1]
        return places * heads * len(self._buffers) <= _MOST_ON_HOST


def _session(sessions: Sessions, name: str) -> BindableSession:
    return cast(BindableSession, sessions[name])


def _on_host(buffers: Mapping[str, Buffer]) -> Mapping[str, NDArray[Any]] | None:
    """Return the caches as arrays; None if the host cannot reach all of them."""
    arrays = {name: buffer.on_host for name, buffer in buffers.items()}
    found = {name: array for name, array in arrays.items() if array is not None}
    return found if len(found) == len(arrays) else None


def _allocated(
    session: BindableSession, size: CacheSize, old: Mapping[str, Buffer]
) -> dict[str, Buffer]:
    """Allocate the caches that the step graph has as inputs; keep old ones of the same shape.

    Raises:
        ModelLoadError: the graph leaves their heads or width open.
    """
    lengths = {"self": size.self_length, "cross": size.cross_length}
    buffers = {}
    for name, spec in session.inputs.items():
        length = lengths.get(name.partition(".")[0])
        if length is None:
            continue
        _, heads, _, width = spec.shape
        if heads is None or width is None:
            raise ModelLoadError(f"the step graph does not say the heads and width of {name}")
        shape = (size.rows, heads, length, width)
        known = old.get(name)
        if known is None or tuple(known.shape) != shape:
            known = session.allocate(spec.dtype, shape)
        buffers[name] = known
    return buffers


def _places(lengths: NDArray[np.int32], longest: int) -> Ints:
    """Return pairs of row and place of the first `lengths` places of each row."""
    return np.ascontiguousarray(np.argwhere(np.arange(longest) < lengths[:, None]))


def _doubled(size: int, wanted: int) -> int:
    while size < wanted:
        size *= 2
    return size
