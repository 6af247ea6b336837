"""A text to translate, and its translation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, TypeAlias

from service.tasks.common import fingerprint

LiteralKind: TypeAlias = Literal["urls", "emails", "numbers", "emoji", "placeholders", "code"]


class FinishReason(StrEnum):
    """Why nothing more was written."""

    STOP = "stop"
    """The model ended the text."""
    LENGTH = "length"
    """The limit of tokens was reached."""
    REPETITION = "repetition"
    """It began to say the same over and over."""


@dataclass(frozen=True, slots=True)
class TranslateItem:
    """A text to translate. What is None is the model's own default."""

    modality: ClassVar = "text"
    text: str
    source: str | None = None
    target: str | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None
    """Tokens of the translation at the most, its end token counted."""
    alternatives: int = 0
    """How many of the best translations to return, including the best one."""
    glossary: tuple[tuple[str, str], ...] = ()
    """Words of the text, and what must stand for each in the translation."""
    protect: tuple[LiteralKind, ...] = ()
    """What of the text must stand in the translation as it is."""

    def fingerprint(self) -> bytes:
        """Return the text and every decoding parameter."""
        return fingerprint(
            self.text,
            self.source,
            self.target,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens,
            self.alternatives,
            len(self.glossary),
            *(word for pair in self.glossary for word in pair),
            *self.protect,
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several texts that were written for one."""

    text: str
    score: float | None
    """Log-probability / length ** length_penalty; None from greedy search, which keeps none."""
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class KeptTerm:
    """A word that a translation had to keep."""

    source: str
    target: str
    is_kept: bool
    """Whether the target stands in the translation as often as the source in the text."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A translated text."""

    text: str
    source: str
    target: str
    truncated: bool
    """Whether the source was longer than the model reads, or the translation is not whole."""
    finish_reason: FinishReason = FinishReason.STOP
    alternatives: tuple[Alternative, ...] = ()
    """As many as were asked for, best first; the first is the translation itself."""
    glossary: tuple[KeptTerm, ...] = ()
    """The terms that stand in the text."""
