"""Labels of frames, smoothed, as spans of time."""

from dataclasses import dataclass, field
from math import exp

from service.tasks import Classification


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which one label was the best."""

    label: str
    start: float
    """Seconds from the beginning of the video."""
    end: float
    score: float
    """Mean of the label's own scores in this time."""


@dataclass(slots=True)
class Spans:
    """Finds spans while frames come in, in memory that does not grow."""

    smoothing: float
    """Seconds after which an earlier frame counts a third (1 / e). 0 takes each frame as it is."""
    _scores: dict[str, float] = field(default_factory=dict)
    _label: str | None = None
    _start: float = 0.0
    _last: float = 0.0
    _total: float = 0.0
    _frames: int = 0

    def add(self, seconds: float, answer: Classification) -> Span | None:
        """Take the labels of a frame; return the span that ends with it, if one does."""
        now = {label.name: label.score for label in answer.labels}
        if not now:
            return None
        gap = seconds - self._last
        past = exp(-gap / self.smoothing) if self.smoothing and self._label is not None else 0.0
        names = self._scores.keys() | now.keys()
        smoothed = {
            n: past * self._scores.get(n, 0.0) + (1 - past) * now.get(n, 0.0) for n in names
        }
        self._scores = {name: score for name, score in smoothed.items() if score > 1e-4}  # noqa: PLR2004
        best = max(smoothed, key=lambda name: (smoothed[name], name))
        ended = None
        if best != self._label:
            ended = self._span(seconds)
            self._label, self._start, self._total, self._frames = best, seconds, 0.0, 0
        self._total += now.get(best, 0.0)
        self._frames += 1
        self._last = seconds
        return ended

    def end(self, seconds: float) -> Span | None:
        """Return the span that is open at the end of the video, None if there is none."""
        ended = self._span(seconds)
        self._label = None
        return ended

    def _span(self, seconds: float) -> Span | None:
        if self._label is None:
            return None
        return Span(self._label, self._start, seconds, self._total / max(self._frames, 1))
