"""From scores of tokens to labelled spans, by the rules of transformers' pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.tasks import Aggregate, TaggedSpan
from service.transforms.language.token_windows import TokenWindow

_Floats = NDArray[np.float32]
_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Labelled spans; every array is [S]."""

    labels: _Places
    """Index of the label; of joined tokens, that of the first."""
    scores: _Floats
    starts: _Places
    ends: _Places


@dataclass(frozen=True, slots=True, eq=False)
class TagScheme:
    """What labels say about where spans begin (B- and I-)."""

    begins: NDArray[np.bool_]
    """Whether a label begins a span, whatever is before it."""
    kinds: _Places
    """Equal for labels whose tokens belong to one span."""
    kind_names: tuple[str, ...]
    """What a span of a label is called."""

    @classmethod
    def of(cls, labels: Sequence[str]) -> "TagScheme":
        """Read the prefixes of labels."""
        bare = [label[2:] if label.startswith(("B-", "I-")) else label for label in labels]
        order = {name: place for place, name in enumerate(dict.fromkeys(bare))}
        return cls(
            np.array([label.startswith("B-") for label in labels], np.bool_),
            np.array([order[name] for name in bare], np.int64),
            tuple(label.split("-", 1)[-1] for label in labels),
        )

    def spans(self, scores: _Floats, window: TokenWindow, aggregate: Aggregate) -> Spans:
        """Return the labelled spans of a window, those without a meaning ("O") included.

        Args:
            scores: probabilities, [T, L].
            window: its tokens.
            aggregate: how tokens become spans.
        """
        real = np.flatnonzero(~window.is_special)
        rows, starts, ends = scores[real], window.starts[real], window.ends[real]
        if not len(real):
            return Spans(real, np.zeros(0, np.float32), starts, ends)
        if aggregate not in ("none", "simple"):
            heads = _heads(~window.is_subword[real])
            rows = _of_words(rows, heads, aggregate)
            starts, ends = starts[heads], ends[_tails(heads, len(ends))]
        best = rows.argmax(axis=1)
        spans = Spans(best, rows[np.arange(len(best)), best], starts, ends)
        return spans if aggregate == "none" else self._joined(spans)

    def _joined(self, spans: Spans) -> Spans:
        kinds = self.kinds[spans.labels]
        heads = _heads(np.append(True, kinds[1:] != kinds[:-1]) | self.begins[spans.labels])
        sums = np.add.reduceat(spans.scores.astype(np.float64), heads)
        scores = (sums / np.diff(heads, append=len(kinds))).astype(np.float32)
        ends = spans.ends[_tails(heads, len(kinds))]
        return Spans(spans.labels[heads], scores, spans.starts[heads], ends)


def _heads(is_head: NDArray[np.bool_]) -> _Places:
    """Return where groups begin; the first one does so anyway."""
    is_head[0] = True
    return np.flatnonzero(is_head)


def _tails(heads: _Places, count: int) -> _Places:
    """Return where groups end, the last place of each."""
    return np.append(heads[1:], count) - 1


def _of_words(scores: _Floats, heads: _Places, aggregate: Aggregate) -> _Floats:
    """Return one row of scores a word."""
    if aggregate == "first":
        return scores[heads]
    if aggregate == "average":
        sums = np.add.reduceat(scores.astype(np.float64), heads, axis=0)
        means: _Floats = (sums / np.diff(heads, append=len(scores))[:, None]).astype(np.float32)
        return means
    peaks = scores.max(axis=1)
    words = zip(heads.tolist(), _tails(heads, len(scores)).tolist(), strict=True)
    return scores[[head + int(peaks[head : tail + 1].argmax()) for head, tail in words]]


def without_overlaps(spans: Sequence[TaggedSpan]) -> tuple[TaggedSpan, ...]:
    """Return spans of overlapping windows without those that another covers.

    Of two spans that overlap the longer one is kept; if they are of one length, the likelier one.
    """
    kept: list[TaggedSpan] = []
    for span in sorted(spans, key=lambda one: one.start):
        if not kept or not kept[-1].start <= span.start < kept[-1].end:
            kept.append(span)
        elif (span.end - span.start, span.score) > (kept[-1].end - kept[-1].start, kept[-1].score):
            kept[-1] = span
    return tuple(kept)
