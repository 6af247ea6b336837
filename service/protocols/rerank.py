"""Reranking as Cohere, Jina, vLLM and infinity have it: POST /v1/rerank, /rerank and /v2/rerank.

It is Quartet's own way to rerank too.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field

from service.api.content import as_text, check_count, each
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.errors import InvalidInputError, ServiceError
from service.protocols.bodies import Body
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolBody,
    complete,
    error_reply,
    parsed,
    rendered,
    selected,
)
from service.requests.admission import ApiLimits
from service.requests.rerank import ranking, rerank
from service.requests.usage import Usage
from service.tasks import Text


class RerankError(BaseModel):
    """An error, as Cohere has it."""

    message: str
    code: str = Field(description="Quartet's own code of the error.")


def render_error(problem: Problem) -> Reply:
    """Return `{"message": ..., "code": ...}`."""
    return error_reply(problem, {"message": problem.detail, "code": problem.code})


RERANK = Protocol("rerank", RerankError, render_error)


class RerankDocument(BaseModel):
    """A document that is not a plain string."""

    text: str


class RerankBody(ProtocolBody):
    """A query, and documents to order by their relevance to it."""

    query: str
    documents: list[Any] = Field(description="Strings, or objects with a text.")
    model: str | None = Field(
        None, description="A reranker or a text embedder; else the default for reranking."
    )
    top_n: Annotated[int, Field(ge=1)] | None = Field(
        None,
        validation_alias=AliasChoices("top_n", "top_k"),
        description="How many documents to return, the best. The default is all.",
    )
    return_documents: bool | None = None
    raw_scores: bool | None = Field(
        None,
        description="Of a reranker: its number as it is (true), or between 0 and 1 by the sigmoid "
        "(false). The default is the model's own way.",
    )

    def texts(self, limits: ApiLimits) -> Sequence[Text | ServiceError]:
        """Return the documents. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.documents), limits)
        return each(self.documents, lambda document: as_text(_text(document), limits, "document"))


class RerankResult(BaseModel):
    """A document and its relevance."""

    index: int = Field(description="Index of the document in the request, from 0.")
    relevance_score: float
    document: RerankDocument | str | None = None


class RerankUsage(BaseModel):
    """Tokens of the texts that were read."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """Documents by descending relevance."""

    id: str
    object: str
    created: int
    model: str
    version: int
    results: list[RerankResult]
    usage: RerankUsage
    meta: dict[str, Any]


async def rerank_documents(request: HttpRequest, body: Body) -> Reply:
    """Order documents by their relevance to a query.

    A reranker scores each pair as its own library does; an embedder gives the cosine.
    """
    wanted = parsed(body, RerankBody)
    limits = request.context.limits
    query, documents = as_text(wanted.query, limits, "query"), wanted.texts(limits)
    usage = Usage()
    work = rerank(
        request.context.registry,
        request.without_transport(),
        selected(wanted.model),
        query,
        documents,
        usage.ask,
        raw_scores=wanted.raw_scores,
    )
    answers = complete(await request.while_connected(work), "document")
    assert answers.model is not None  # noqa: S101 - every document was answered
    scores = [outcome.answer for outcome in answers.outcomes]
    results = [
        {"index": place, "relevance_score": scores[place]}
        for place in ranking(scores, wanted.top_n)
    ]
    if wanted.return_documents:
        as_string = "raw_scores" in body.values  # only infinity's clients send it
        for result in results:
            text = _text(wanted.documents[int(result["index"])])
            result["document"] = text if as_string else {"text": text}
    answer = {
        "id": request.request_id,
        "object": "rerank",
        "created": int(time.time()),
        "model": answers.model.name,
        "version": answers.model.version,
        "results": results,
        "usage": {"prompt_tokens": usage.tokens, "total_tokens": usage.tokens},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }
    return rendered(answer, answers)


def _text(document: object) -> object:
    """Return the text of a document. Raises InvalidInputError."""
    if not isinstance(document, dict):
        return document
    if "text" not in document:
        raise InvalidInputError("a document must be a string, or an object with a text")
    return document["text"]


_EXAMPLE: Mapping[str, Any] = {
    "model": "emoji",
    "query": "a pet",
    "documents": ["dog face", "watermelon", "cat"],
    "top_n": 2,
}

RERANKING = Operation(RERANK, rerank_documents, RerankBody, RerankResponse, _EXAMPLE)
