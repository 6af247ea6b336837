"""Weaviate's inference containers: text2vec-transformers, multi2vec-clip, reranker-transformers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from service.api.content import as_image, as_text, check_count, each
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.errors import InvalidInputError
from service.protocols.bodies import Body
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolBody,
    ProtocolRoute,
    answer_items,
    complete,
    error_reply,
    get,
    parsed,
    post,
    rendered,
)
from service.requests.answer import found
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request, Selection
from service.requests.rerank import document_prompt, query_prompt, rerank
from service.tasks import AnyItem, EmbedItem, Task, Text


class WeaviateError(BaseModel):
    """An error of Weaviate's containers."""

    error: str


def render_error(problem: Problem) -> Reply:
    """Return `{"error": ...}`."""
    return error_reply(problem, {"error": problem.detail})


WEAVIATE = Protocol("weaviate", WeaviateError, render_error)


class WeaviateConfig(ProtocolBody):
    """How to embed."""

    task_type: str | None = Field(
        None, description="query or passage: the model's prompt for it, if it has one."
    )
    dimensions: Annotated[int, Field(ge=0, le=65_536)] | None = None


class WeaviateVectorsBody(ProtocolBody):
    """A text, or several."""

    text: str | None = None
    texts: list[Any] | None = None
    config: WeaviateConfig | None = None


class WeaviateVectors(BaseModel):
    """The vector of a text, or those of several."""

    text: str | None = None
    vector: list[float] | None = None
    vectors: list[list[float]] | None = None
    dims: int
    dim: int


class WeaviateVectorizeBody(ProtocolBody):
    """Texts and images in base64."""

    texts: list[Any] | None = None
    images: list[Any] | None = None


class WeaviateVectorized(BaseModel):
    """The vectors of texts and of images, in one space."""

    textVectors: list[list[float]]  # noqa: N815 - the protocol's name
    imageVectors: list[list[float]]  # noqa: N815


class WeaviateRerankBody(ProtocolBody):
    """A query, and documents to score."""

    query: str
    documents: list[Any]
    property: str | None = None


class WeaviateScore(BaseModel):
    """A document and its relevance."""

    document: str
    score: float


class WeaviateScores(BaseModel):
    """The scores, in the order of the request."""

    query: str
    scores: list[WeaviateScore]


class WeaviateMeta(BaseModel):
    """The container's model."""

    model: str


async def vectors(request: HttpRequest, body: Body) -> Reply:
    """Embed a text, or several, for text2vec-transformers."""
    wanted, limits = parsed(body, WeaviateVectorsBody), request.context.limits
    if (wanted.text is None) == (wanted.texts is None):
        raise InvalidInputError("give either text or texts")
    config = wanted.config or WeaviateConfig()
    texts = [wanted.text] if wanted.texts is None else wanted.texts
    check_count(len(texts), limits)
    items = each(
        texts,
        lambda text: EmbedItem(as_text(text, limits), dimensions=config.dimensions or None),
    )
    asked = _Prompted(config.task_type)
    answers = await answer_items(request, Task.EMBED, Selection(), items, asked.ask, noun="texts")
    found = [np.ascontiguousarray(outcome.answer.vector) for outcome in answers.outcomes]
    sizes = {"dims": found[0].size, "dim": found[0].size}
    if wanted.texts is None:
        return rendered({"text": wanted.text, "vector": found[0], **sizes}, answers)
    return rendered({"vectors": found, **sizes}, answers)


async def vectorize(request: HttpRequest, body: Body) -> Reply:
    """Embed texts and images for multi2vec-clip."""
    wanted, limits = parsed(body, WeaviateVectorizeBody), request.context.limits
    texts, images = wanted.texts or [], wanted.images or []
    check_count(len(texts) + len(images), limits)
    items = [
        *each(texts, lambda text: EmbedItem(as_text(text, limits))),
        *each(images, lambda image: EmbedItem(as_image(image, limits))),
    ]
    answers = await answer_items(request, Task.EMBED, Selection(), items)
    found = [np.ascontiguousarray(outcome.answer.vector) for outcome in answers.outcomes]
    body_of = {"textVectors": found[: len(texts)], "imageVectors": found[len(texts) :]}
    return rendered(body_of, answers)


async def score(request: HttpRequest, body: Body) -> Reply:
    """Score documents against a query for reranker-transformers."""
    wanted, limits = parsed(body, WeaviateRerankBody), request.context.limits
    check_count(len(wanted.documents), limits)
    work = rerank(
        request.context.registry,
        request.without_transport(),
        Selection(),
        as_text(wanted.query, limits, "query"),
        each(wanted.documents, lambda text: as_text(text, limits, "document")),
    )
    answers = complete(await request.while_connected(work), "document")
    scores = [
        {"document": text, "score": outcome.answer}
        for text, outcome in zip(wanted.documents, answers.outcomes, strict=True)
    ]
    return rendered({"query": wanted.query, "scores": scores}, answers)


async def meta(request: HttpRequest) -> Reply:
    """Name the model that embeds texts."""
    find = partial(request.context.registry.find, Task.EMBED, "text", None, None)
    pipeline = await found(find, request.without_transport())
    return rendered({"model": pipeline.model.name})


@dataclass(frozen=True, slots=True)
class _Prompted:
    """Asks with the model's prompt for queries or for documents, if it has one."""

    task_type: str | None = field(default=None)

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        prompts = pipeline.family.traits.prompts
        name = {"query": query_prompt, "passage": document_prompt}.get(self.task_type or "")
        if name is not None and isinstance(item, EmbedItem) and isinstance(item.content, Text):
            item = replace(item, prompt_name=name(prompts))
        return await pipeline.answer(item, request)


_TEXTS = {"texts": ["dog face", "狗脸"]}

SCORE = Operation(
    WEAVIATE,
    score,
    WeaviateRerankBody,
    WeaviateScores,
    {"query": "a pet", "documents": ["dog face"], "property": "text"},
    claims=lambda values: "property" in values,
)


def weaviate_routes() -> Sequence[ProtocolRoute]:
    """Return the routes. `/rerank` and the probes have other owners too."""
    embed = Operation(WEAVIATE, vectors, WeaviateVectorsBody, WeaviateVectors, {"text": "dog face"})
    both = Operation(WEAVIATE, vectorize, WeaviateVectorizeBody, WeaviateVectorized, _TEXTS)
    return [
        post("/vectors", embed),
        post("/vectorize", both),
        get("/meta", WEAVIATE, meta, WeaviateMeta),
    ]
