"""OpenAI's embeddings: POST /v1/embeddings, and the shape of its errors."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, Field

from service.api.content import as_image, as_text, check_count, each
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.openapi import sample
from service.api.replies import Reply
from service.errors import LimitExceededError, ServiceError
from service.protocols.bodies import Body, refuse_token_ids
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolBody,
    ProtocolRoute,
    answer_items,
    error_reply,
    parsed,
    post,
    rendered,
    selected,
)
from service.requests.admission import ApiLimits
from service.requests.usage import Usage
from service.requests.windowed import AtMost
from service.tasks import EmbedItem, Task

_DATA_URI = "data:image/"
_MOST_INPUTS = 2048
"""OpenAI's own limit; langchain sends a thousand texts at once."""


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str = Field(description="Quartet's own code of the error.")


class OpenAIError(BaseModel):
    """An error in OpenAI's shape."""

    error: OpenAIErrorDetail


def render_error(problem: Problem) -> Reply:
    """Return `{"error": {...}}`; an invalid body has status 400, as OpenAI answers it."""
    status = problem.status.value
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004
    kind = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, kind
    )
    error = {"message": problem.detail, "type": kind, "param": None, "code": problem.code}
    headers = []
    if problem.retry_after is not None:
        headers.append((b"retry-after-ms", b"%d" % (1000 * problem.retry_after)))
    return error_reply(
        problem,
        {"error": error},
        *headers,
        status=400 if status == 422 else status,  # noqa: PLR2004
    )


OPENAI = Protocol("openai", OpenAIError, render_error)


class OpenAIEmbeddingsBody(ProtocolBody):
    """Texts, or images as data URIs, to embed."""

    input: str | list[Any] = Field(
        description="A text or an image (`data:image/png;base64,...`), or a list of these."
    )
    model: str | None = Field(None, description="A model's name; else the task's default.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers, or little-endian float32 in base64. The default is float."
    )
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None,
        validation_alias=AliasChoices("dimensions", "output_dimension"),
        description="How many numbers of each vector to return, the first ones.",
    )
    modality: Literal["text", "image"] | None = Field(
        None, description="image: every input is an image, in base64 or as a data URI."
    )
    user: str | None = None

    def items(self, limits: ApiLimits) -> Sequence[EmbedItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        values = [self.input] if isinstance(self.input, str) else self.input
        refuse_token_ids(values)
        _check_count(values, limits)
        return each(values, lambda value: self._item(value, limits))

    def _item(self, value: object, limits: ApiLimits) -> EmbedItem:
        is_uri = isinstance(value, str) and value.startswith(_DATA_URI)
        if self.modality == "image" or (is_uri and self.modality is None):
            return EmbedItem(as_image(value, limits), dimensions=self.dimensions)
        return EmbedItem(as_text(value, limits, "input"), dimensions=self.dimensions)


def _check_count(values: Sequence[Any], limits: ApiLimits) -> None:
    """Allow as many texts as OpenAI does, if together they are no longer than other requests.

    Raises:
        InvalidInputError: there are none.
        LimitExceededError: there are too many.
    """
    if len(values) <= limits.max_items or len(values) > _MOST_INPUTS or any(map(_is_uri, values)):
        check_count(len(values), limits)
        return
    size, most = sum(map(len, values)), limits.max_items * limits.max_characters
    if size > most:
        raise LimitExceededError(f"the inputs have {size} characters; {most} are read at once")


def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or value.startswith(_DATA_URI)


class OpenAIEmbedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(BaseModel):
    """Tokens of the texts that were read."""

    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddings(BaseModel):
    """One vector for each input, in order."""

    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


async def embeddings(request: HttpRequest, body: Body) -> Reply:
    """Embed texts and images, as OpenAI's clients ask for it."""
    wanted = parsed(body, OpenAIEmbeddingsBody)
    usage, limits = Usage(), request.context.limits
    answers = await answer_items(
        request,
        Task.EMBED,
        selected(wanted.model),
        wanted.items(limits),
        AtMost(limits.max_items, usage.ask).ask,
    )
    encode = _as_base64 if wanted.encoding_format == "base64" else np.ascontiguousarray
    data = [
        {"object": "embedding", "index": index, "embedding": encode(outcome.answer.vector)}
        for index, outcome in enumerate(answers.outcomes)
    ]
    assert answers.model is not None  # noqa: S101 - every item was answered
    counts = {"prompt_tokens": usage.tokens, "total_tokens": usage.tokens}
    return rendered(
        {"object": "list", "data": data, "model": answers.model.name, "usage": counts}, answers
    )


def _as_base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


EMBEDDINGS = Operation(
    OPENAI,
    embeddings,
    OpenAIEmbeddingsBody,
    OpenAIEmbeddings,
    {"input": ["dog face", "狗脸"], "model": "emoji"},
)


async def embeddings_of_images(request: HttpRequest, body: Body) -> Reply:
    """Embed images, in base64 or as data URIs, as infinity's clients ask for it."""
    return await embeddings(request, Body({**body.values, "modality": "image"}))


def openai_routes() -> Sequence[ProtocolRoute]:
    """Return the routes; infinity has the embeddings without `/v1`."""
    images = replace(
        EMBEDDINGS, answer=embeddings_of_images, example={"input": [sample("emoji.png")]}
    )
    return [
        post("/v1/embeddings", EMBEDDINGS),
        post("/embeddings", EMBEDDINGS),
        post("/embeddings_image", images),
    ]
