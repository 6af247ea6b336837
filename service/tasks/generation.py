"""A text to write another from, such as a summary, and what was written."""

from dataclasses import dataclass
from typing import ClassVar

from service.tasks.common import fingerprint
from service.tasks.translation import Alternative, FinishReason


@dataclass(frozen=True, slots=True)
class GenerateItem:
    """A text to write another from. What is None is the model's own default."""

    modality: ClassVar = "text"
    text: str
    prefix: str | None = None
    """Put before the text, such as "summarize: "."""
    num_beams: int | None = None
    length_penalty: float | None = None
    max_new_tokens: int | None = None
    """Tokens that are written at the most, the end token counted."""
    min_new_tokens: int | None = None
    """Tokens that are written at least before the end token."""
    alternatives: int = 0
    """How many of the best texts to return, including the best one."""

    def fingerprint(self) -> bytes:
        """Return the text and every parameter."""
        return fingerprint(
            self.text,
            self.prefix,
            self.num_beams,
            self.length_penalty,
            self.max_new_tokens,
            self.min_new_tokens,
            self.alternatives,
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """A text that a model has written."""

    text: str
    truncated: bool
    """Whether the model read only the beginning of its input, or the text is not whole."""
    finish_reason: FinishReason = FinishReason.STOP
    alternatives: tuple[Alternative, ...] = ()
    """As many as were asked for, best first; the first is the text itself."""
