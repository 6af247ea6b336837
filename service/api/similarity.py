"""POST /v1/similarity: how near texts and images are to one text or image."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.api.content import (
    Images,
    TaskRequest,
    Texts,
    as_image,
    as_text,
    check_count,
    each,
    read_request,
)
from service.api.http_request import HttpRequest
from service.api.replies import Reply, answers_reply
from service.api.schemas import given
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import ApiLimits
from service.requests.request import Selection
from service.requests.similarity import similarity
from service.tasks import Content

_OneImage: TypeAlias = Annotated[
    Any, WithJsonSchema({"type": "string", "minLength": 1, "contentEncoding": "base64"})
]


class SimilarityRequest(TaskRequest):
    """A source, and texts, images or both to compare with it."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                given("source_text", "source_image"),
                given("source_image", "source_text"),
            ],
            "anyOf": [given("text"), given("image")],
        }
    )

    source_text: str | None = Field(None, description="Text to compare the others with.")
    source_image: _OneImage | None = Field(None, description="Image to compare the others with.")
    text: Texts | None = None
    image: Images | None = None

    def source(self, limits: ApiLimits) -> Content:
        """Return what the others are compared with. Raises InvalidInputError."""
        if (self.source_text is None) == (self.source_image is None):
            raise InvalidInputError("give either source_text or source_image")
        if self.source_text is not None:
            return as_text(self.source_text, limits, "source_text")
        return as_image(self.source_image, limits)

    def others(self, limits: ApiLimits) -> Sequence[Content | ServiceError]:
        """Return what is compared. Raises InvalidInputError, LimitExceededError."""
        if self.text is None and self.image is None:
            raise InvalidInputError("give text, image, or both")
        texts, images = self.text or [], self.image or []
        check_count(len(texts) + len(images), limits)
        return [
            *each(texts, lambda text: as_text(text, limits)),
            *each(images, lambda image: as_image(image, limits)),
        ]


class SimilarityResult(BaseModel):
    """How near one text or image is to the source."""

    score: float = Field(description="A cosine from -1 to 1, or the score of a classifier.")


class SimilarityResponse(BaseModel):
    """One result for each text, then for each image, in order."""

    model: str
    version: int
    results: list[SimilarityResult]


async def compare(request: HttpRequest) -> Reply:
    """Compare texts and images with one: by vectors, or by a classifier of pairs of texts."""
    body = await read_request(request, SimilarityRequest)
    limits = request.context.limits
    work = similarity(
        request.context.registry,
        request.without_transport(),
        Selection(body.model, body.version),
        body.source(limits),
        body.others(limits),
    )
    return answers_reply(request, await request.while_connected(work), _encode)


def _encode(score: float) -> Mapping[str, Any]:
    return {"score": score}
