"""Labelled spans of texts: POST /v1/classify with `aggregate`, or of a token classifier."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field

from service.api.content import TaskRequest, Texts, as_text, check_count, each
from service.errors import ServiceError
from service.requests.admission import ApiLimits
from service.tasks import Aggregate, Tagging, TagItem

AggregateField: TypeAlias = Annotated[
    Aggregate | None,
    Field(
        description="Find labelled spans, such as names, with a token classifier, and join its "
        "tokens so: none: not at all. simple: neighbours of one label. first, average, max: "
        "likewise, after the tokens of each word agreed on a label, by the first, by the mean of "
        "all, or by the largest score. The default of a token classifier is simple."
    ),
]
StrideField: TypeAlias = Annotated[
    Annotated[int, Field(ge=0, le=65_536)] | None,
    Field(
        description="Tokens that the windows share in which a token classifier reads a long text. "
        "The default is the model's own."
    ),
]


class TagRequest(TaskRequest):
    """Texts to find labelled spans in."""

    text: Texts
    aggregate: AggregateField = None
    stride: StrideField = None

    def items(self, limits: ApiLimits) -> Sequence[TagItem | ServiceError]:
        """Return the items. Raises LimitExceededError."""
        check_count(len(self.text), limits)
        aggregate = self.aggregate or "simple"
        return each(
            self.text, lambda text: TagItem(as_text(text, limits).text, aggregate, self.stride)
        )


class Span(BaseModel):
    """A part of a text with a label."""

    label: str
    score: float
    start: int = Field(description="Index of its first character; characters are code points.")
    end: int = Field(description="Index after its last character.")
    text: str


class TagResult(BaseModel):
    """Labelled spans of one text, in order."""

    spans: list[Span]
    windows: int = Field(description="How many overlapping windows the text was read in.")


def encode_tagging(answer: Tagging) -> Mapping[str, Any]:
    """Return the spans as a JSON object."""
    spans = [
        {
            "label": span.label,
            "score": span.score,
            "start": span.start,
            "end": span.end,
            "text": span.text,
        }
        for span in answer.spans
    ]
    return {"spans": spans, "windows": answer.windows}
