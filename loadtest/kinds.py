"""What can be asked, and of which task it is."""

from collections.abc import Sequence
from enum import StrEnum


class Task(StrEnum):
    """The four tasks; each has a pool of users of its own."""

    CLASSIFY = "classify"
    TRANSLATE = "translate"
    DETECT = "detect"
    EMBED = "embed"


class Kind(StrEnum):
    """A kind of request; results are reported by kind."""

    CLASSIFY_TEXT = "classify text"
    CLASSIFY_IMAGE = "classify image"
    CLASSIFY_LABELS = "classify labels"
    TRANSLATE = "translate"
    DETECT = "detect"
    EMBED_TEXT = "embed text"
    EMBED_IMAGE = "embed image"
    EMBED_OPENAI = "embed openai"
    EMBED_RERANK = "embed rerank"
    CLASSIFY_OIP = "classify oip"
    DETECT_WORKFLOW = "detect workflow"
    CLASSIFY_HUGGINGFACE = "classify huggingface"
    TRANSLATE_LIBRETRANSLATE = "translate libretranslate"
    DETECT_DEEPSTACK = "detect deepstack"
    EMBED_TEI = "embed tei"
    CLASSIFY_SPANS = "classify spans"
    """By a token classifier, which none of the starters is."""
    DETECT_VIDEO = "detect video"
    TRANSLATE_GENERATE = "translate generate"
    """By a model that writes texts, which none of the starters is."""
    EMBED_SIMILARITY = "embed similarity"

    @property
    def task(self) -> Task:
        """Return the task whose users send it."""
        return Task(self.value.split()[0])


FOREIGN = frozenset(
    {
        Kind.EMBED_OPENAI,
        Kind.EMBED_RERANK,
        Kind.CLASSIFY_OIP,
        Kind.CLASSIFY_HUGGINGFACE,
        Kind.TRANSLATE_LIBRETRANSLATE,
        Kind.DETECT_DEEPSTACK,
        Kind.EMBED_TEI,
        Kind.DETECT_WORKFLOW,
        Kind.DETECT_VIDEO,
        Kind.EMBED_SIMILARITY,
    }
)
"""Kinds of the scenario `protocols` only: protocols of other services and composed tasks."""

UNSERVED = frozenset({Kind.CLASSIFY_SPANS, Kind.TRANSLATE_GENERATE})
"""Kinds that no starter answers: for scenarios of users with models of their own."""

STREAMED = frozenset({Kind.DETECT_VIDEO})
"""Kinds whose answer is lines of JSON; the last one tells whether the others are complete."""

KINDS: Sequence[Kind] = tuple(Kind)
"""In a fixed order: samples keep the position of a kind, not its name."""
