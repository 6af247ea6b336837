"""POST /v1/embed: texts and images to vectors of one space."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

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
from service.api.replies import Reply, task_reply
from service.api.schemas import given
from service.errors import InvalidInputError, ServiceError
from service.requests.admission import ApiLimits
from service.requests.answer import ask_pipeline
from service.requests.token_vectors import TokenVectors
from service.tasks import Embedding, EmbedItem, Task, VectorForm
from service.transforms.vectors import to_bits, to_int8

Output: TypeAlias = Literal["float", "int8", "binary", "sparse", "tokens"]

_DENSE = ("float", "int8", "binary")


def _asks(outputs: Sequence[str], present: str, *absent: str) -> JsonDict:
    """Return the schema of a request for these outputs, with a field and without others."""
    schema = given(present, *absent)
    fields = schema["properties"]
    assert isinstance(fields, dict)  # noqa: S101 - for mypy
    return {**schema, "properties": {**fields, "output": {"enum": [*outputs]}}}


class EmbedRequest(TaskRequest):
    """Texts, images, or both. Results come texts first, then images, each in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                _asks(_DENSE, "text"),
                _asks(_DENSE, "image", "prompt_name"),
                _asks(["tokens"], "text", "image"),
                _asks(["sparse"], "text", "image", "dimensions", "normalize"),
            ]
        }
    )

    text: Texts | None = None
    image: Images | None = None
    prompt_name: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None,
        description="Name of the model's prompt to put before the texts; else its default prompt.",
    )

    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None,
        description="How many numbers of each vector to return, the first ones. A vector of unit "
        "length is scaled to unit length again. The default is all.",
    )
    normalize: bool | None = Field(
        None,
        description="Whether vectors are scaled to unit length; else as the model was trained.",
    )
    output: Output = Field(
        "float",
        description="float: 32-bit numbers. int8: integers from -127 to 127, and the `scale` that "
        "gives the numbers back. binary: one bit a number, 1 if it is positive, eight to a byte, "
        "the first bit highest. sparse: weights of tokens of the vocabulary, of models such as "
        "SPLADE. tokens: a vector for each token of a text, special tokens included, as the model "
        "gives it.",
    )

    @property
    def form(self) -> VectorForm:
        """Return what the models are asked for."""
        return self.output if self.output in ("tokens", "sparse") else "vector"

    def items(self, limits: ApiLimits) -> Sequence[EmbedItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        if self.text is None and self.image is None:
            raise InvalidInputError("give text, image, or both")
        if self.text is None and self.prompt_name is not None:
            raise InvalidInputError("prompt_name is for texts, and there are none")
        texts, images = self.text or [], self.image or []
        check_count(len(texts) + len(images), limits)
        if self.form != "vector" and images:
            raise InvalidInputError(f"{self.output} is an output for texts, not for images")
        if self.output == "sparse" and (self.dimensions or self.normalize is not None):
            raise InvalidInputError("sparse vectors have neither dimensions nor normalize")
        made = partial(
            EmbedItem, dimensions=self.dimensions, normalize=self.normalize, form=self.form
        )
        return [
            *each(texts, lambda text: made(as_text(text, limits), self.prompt_name)),
            *each(images, lambda image: made(as_image(image, limits))),
        ]


class EmbedResult(BaseModel):
    """The vector of one item, of unit length unless the model does not normalise."""

    embedding: list[float] | list[list[float]] = Field(
        description="Numbers; of int8 and binary, integers; of tokens, a vector for each; of "
        "sparse, the weights."
    )
    scale: float | None = Field(None, description="Of int8: numbers times scale give the vector.")
    indices: list[int] | None = Field(
        None,
        description="Of sparse: the token of the vocabulary that each weight is of, ascending.",
    )


class EmbedResponse(BaseModel):
    """One result for each item: texts first, then images."""

    model: str
    version: int
    dimensions: int | None = Field(None, description="Length of every vector; not of sparse.")
    results: list[EmbedResult]


async def embed(request: HttpRequest) -> Reply:
    """Turn texts and images into vectors; similar meanings have similar vectors."""
    body = await read_request(request, EmbedRequest)
    items = body.items(request.context.limits)
    encode = partial(encode_embedding, output=body.output)
    if body.output == "sparse":
        return await task_reply(request, Task.SPARSE, body, items, encode)
    ask = TokenVectors().ask if body.output == "tokens" else ask_pipeline
    return await task_reply(request, Task.EMBED, body, items, encode, _head, ask=ask)


def encode_embedding(answer: Embedding, output: Output = "float") -> Mapping[str, Any]:
    """Return the vector as a JSON object."""
    # orjson serialises arrays; `.tolist()` would cost forty times as much.
    if answer.indices is not None:
        return {"indices": answer.indices, "embedding": answer.vector}
    match output:
        case "float" | "tokens" | "sparse":
            return {"embedding": np.ascontiguousarray(answer.vector)}
        case "int8":
            numbers, scale = to_int8(answer.vector)
            return {"embedding": numbers, "scale": scale}
        case "binary":
            return {"embedding": to_bits(answer.vector)}


def _head(answers: Sequence[Embedding]) -> Mapping[str, Any]:
    return {"dimensions": answers[0].vector.shape[-1]}
