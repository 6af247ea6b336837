"""POST /v1/embed: texts and images to vectors of one space."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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
from service.api.openapi import given
from service.api.replies import Reply, task_reply
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import ApiLimits
from service.tasks import Embedding, EmbedItem, Task


class EmbedRequest(TaskRequest):
    """Texts, images, or both. Results come texts first, then images, each in order."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [given("text"), given("image", "prompt_name")]}
    )

    text: Texts | None = None
    image: Images | None = None
    prompt_name: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None,
        description="Name of the model's prompt to put before the texts; else its default prompt.",
    )

    def items(self, limits: ApiLimits) -> Sequence[EmbedItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        if self.text is None and self.image is None:
            raise InvalidInputError("give text, image, or both")
        if self.text is None and self.prompt_name is not None:
            raise InvalidInputError("prompt_name is for texts, and there are none")
        texts, images = self.text or [], self.image or []
        check_count(len(texts) + len(images), limits)
        return [
            *each(texts, lambda text: EmbedItem(as_text(text, limits), self.prompt_name)),
            *each(images, lambda image: EmbedItem(as_image(image, limits))),
        ]


class EmbedResult(BaseModel):
    """The vector of one item, of unit length unless the model does not normalise."""

    embedding: list[float]


class EmbedResponse(BaseModel):
    """One result for each item: texts first, then images."""

    model: str
    version: int
    dimensions: int = Field(description="Length of every vector.")
    results: list[EmbedResult]


async def embed(request: HttpRequest) -> Reply:
    """Turn texts and images into vectors; similar meanings have similar vectors."""
    body = await read_request(request, EmbedRequest)
    items = body.items(request.context.limits)
    return await task_reply(request, Task.EMBED, body, items, _encode, _head)


def _encode(answer: Embedding) -> Mapping[str, Any]:
    # orjson serialises the array; `.tolist()` would cost forty times as much.
    return {"embedding": np.ascontiguousarray(answer.vector)}


def _head(answers: Sequence[Embedding]) -> Mapping[str, Any]:
    return {"dimensions": answers[0].vector.size}
