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

    @property
    def task(self) -> Task:
        """Return the task that answers it."""
        return Task(self.value.split()[0])


FOREIGN = frozenset({Kind.EMBED_OPENAI, Kind.EMBED_RERANK, Kind.CLASSIFY_OIP, Kind.DETECT_WORKFLOW})
"""Kinds of the scenario `protocols` only: OpenAI, rerankers, Open Inference Protocol, workflows."""

KINDS: Sequence[Kind] = tuple(Kind)
"""In a fixed order: samples keep the position of a kind, not its name."""
