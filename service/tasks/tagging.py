"""A text whose words get labels, and the labelled spans."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from service.tasks.common import fingerprint

Aggregate: TypeAlias = Literal["none", "simple", "first", "average", "max"]
"""How labels of tokens become spans, by transformers' names."""


@dataclass(frozen=True, slots=True)
class TagItem:
    """A text to find labelled spans in, such as names."""

    modality: ClassVar = "text"
    text: str
    aggregate: Aggregate = "simple"
    """none: a span for each token. simple: neighbours of one label are joined. first, average, max:
    a word's tokens first agree on a label, by the first token, by the mean of all, or by the
    largest score."""
    stride: int | None = None
    """Tokens that two neighbouring windows of a long text share; None is the model's default."""
    ignored: tuple[str, ...] = ("O",)
    """Labels whose spans are left out."""
    window: int | None = None
    """Which window of a long text to answer, from 0; None answers all of them."""

    def fingerprint(self) -> bytes:
        """Return the text, and what to make of its tokens' labels."""
        return fingerprint(
            self.text, self.aggregate, self.stride, self.window, len(self.ignored), *self.ignored
        )


@dataclass(frozen=True, slots=True)
class TaggedSpan:
    """A part of a text with a label."""

    label: str
    score: float
    """Probability; of several tokens, their mean."""
    start: int
    """Index of its first character."""
    end: int
    """Index after its last character."""
    text: str
    """The characters from start to end."""


@dataclass(frozen=True, slots=True)
class Tagging:
    """Labelled spans, in the order of the text."""

    spans: tuple[TaggedSpan, ...]
    windows: int = 1
    """How many overlapping windows the text was read in."""
