"""What the events of a streamed translation say, for the documentation."""

from typing import Literal

from pydantic import BaseModel, Field

from service.api.documentation import ProblemBody
from service.api.translate import TranslateResult
from service.cache.responses import CacheOutcome


class TranslationProgress(BaseModel):
    """How far a stream is."""

    done: int = Field(description="Pieces that are translated, or failed.")
    total: int = Field(description="Pieces of all texts.")


class TranslationStart(TranslationProgress):
    """The first event."""

    event: Literal["start"]
    model: str
    version: int
    items: int = Field(description="Texts of the request.")


class TranslationPiece(TranslationProgress):
    """Which piece an event is of, and what stands round it in the translation."""

    item: int = Field(description="Which text, from 0.")
    index: int = Field(description="Which piece of it, from 0.")
    start: int = Field(description="Where it begins in its text, in characters (code points).")
    end: int
    before: str = Field(description="Space, line ends and the like, before its translation.")
    after: str = Field(description="The same behind it; empty but for the last piece of a text.")


class TranslationSegment(TranslateResult, TranslationPiece):
    """A piece is translated. `before`, `translation`, `after` of all are the translated text."""

    event: Literal["segment"]
    cache: CacheOutcome


class TranslationTokens(BaseModel):
    """The piece whose turn it is has got longer."""

    event: Literal["tokens"]
    item: int
    index: int
    text: str = Field(
        description="All of it so far. With more than one beam the best beginning, which a later "
        "event may replace."
    )


class TranslationHeartbeat(TranslationProgress):
    """Nothing has happened for a while; the connection is still of use."""

    event: Literal["progress"]


class TranslationError(ProblemBody):
    """A problem: of a piece, with its place; of a text; or of all that is left, with neither."""

    event: Literal["error"]
    done: int
    total: int
    item: int | None = None
    index: int | None = None
    start: int | None = None
    end: int | None = None
    before: str | None = None
    after: str | None = None


class TranslationEnd(TranslationProgress):
    """The last event."""

    event: Literal["end"]
    failed: int
    truncated: int = Field(description="Pieces of which something was cut.")
    cache: dict[CacheOutcome, int] = Field(description="Pieces by where they came from.")
    seconds: float = Field(description="From the arrival of the request.")
    longest: dict[str, float] = Field(
        description="Seconds of each step, of the piece that took longest in it."
    )


TRANSLATION_EVENTS: tuple[type[BaseModel], ...] = (
    TranslationStart,
    TranslationSegment,
    TranslationTokens,
    TranslationHeartbeat,
    TranslationError,
    TranslationEnd,
)
