"""text-embeddings-inference: its routes, at the root and below /tei/{model}.

SageMaker and Vertex AI ask a server of it by paths of their own.

A server of text-embeddings-inference has one model. Here each route asks the default of its task;
`/tei/{model}` as the address of the server chooses a model.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from service.api.content import as_text, check_count
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.cache.responses import CacheOutcome, together
from service.errors import (
    ServiceError,
    error_from,
    fields_of,
)
from service.protocols.bodies import Body
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolRoute,
    answer_items,
    complete,
    error_reply,
    parsed,
    post,
    rendered,
)
from service.protocols.tei_bodies import (
    TeiAnswers,
    TeiDecodeBody,
    TeiEmbedBody,
    TeiError,
    TeiPredictBody,
    TeiPredictions,
    TeiRanking,
    TeiRerankBody,
    TeiSimilarities,
    TeiSimilarityBody,
    TeiSimilarityParameters,
    TeiSparseVectors,
    TeiTexts,
    TeiTextsBody,
    TeiTokenizeBody,
    TeiTokens,
    TeiTokenVectors,
    TeiVectors,
    VertexAnswer,
    VertexBody,
)
from service.protocols.tei_tokens import decode, selection, text_model, tokenize
from service.requests.rerank import ranking, rerank
from service.requests.token_vectors import TokenVectors
from service.tasks import Classification, Embedding, Task


def render_error(problem: Problem) -> Reply:
    """Return `{"error": ..., "error_type": ...}`."""
    kind = {429: "Overloaded", 503: "Unhealthy"}.get(problem.status.value)
    if kind is None:
        kind = "Backend" if problem.status >= 500 else "Validation"  # noqa: PLR2004
    return error_reply(problem, {"error": problem.detail, "error_type": kind})


TEI = Protocol("tei", TeiError, render_error)


async def embed(request: HttpRequest, body: Body) -> Reply:
    """Embed texts: one vector for each."""
    wanted = parsed(body, TeiEmbedBody)
    items = wanted.items(request.context.limits)
    answers = await answer_items(
        request, Task.EMBED, selection(request), items, wanted.whole().ask, noun="inputs"
    )
    vectors = [np.ascontiguousarray(outcome.answer.vector) for outcome in answers.outcomes]
    return rendered(vectors, answers)


async def embed_all(request: HttpRequest, body: Body) -> Reply:
    """Embed texts: a vector for each token, special tokens included, as the model gives it."""
    wanted = parsed(body, TeiTextsBody)
    items = wanted.items(request.context.limits, "tokens")
    ask = TokenVectors(wanted.whole().ask).ask
    answers = await answer_items(request, Task.EMBED, selection(request), items, ask, noun="inputs")
    return rendered([outcome.answer.vector for outcome in answers.outcomes], answers)


async def embed_sparse(request: HttpRequest, body: Body) -> Reply:
    """Embed texts sparsely: the weights of tokens of the vocabulary, such as SPLADE gives."""
    wanted = parsed(body, TeiTextsBody)
    items = wanted.items(request.context.limits, "sparse")
    answers = await answer_items(
        request, Task.SPARSE, selection(request), items, wanted.whole().ask, noun="inputs"
    )
    return rendered([_weights(outcome.answer) for outcome in answers.outcomes], answers)


async def predict(request: HttpRequest, body: Body) -> Reply:
    """Classify texts or pairs; labels by descending score."""
    wanted = parsed(body, TeiPredictBody)
    items = wanted.items(request.context.limits)
    answers = await answer_items(
        request, Task.CLASSIFY, selection(request), items, wanted.whole().ask, noun="inputs"
    )
    predictions = [_prediction(outcome.answer) for outcome in answers.outcomes]
    return rendered(predictions if wanted.is_batch else predictions[0], answers)


async def rank(request: HttpRequest, body: Body) -> Reply:
    """Order texts by their relevance to a query."""
    wanted, limits = parsed(body, TeiRerankBody), request.context.limits
    query, texts = as_text(wanted.query, limits, "query"), wanted.documents(limits)
    work = rerank(
        request.context.registry,
        request.without_transport(),
        selection(request),
        query,
        texts,
        wanted.whole().ask,
        raw_scores=wanted.raw_scores,
    )
    answers = complete(await request.while_connected(work), "texts")
    scores = [outcome.answer for outcome in answers.outcomes]
    ranks: list[dict[str, Any]] = [
        {"index": place, "score": scores[place]} for place in ranking(scores, wanted.top_n)
    ]
    if wanted.return_text:
        for one in ranks:
            one["text"] = wanted.texts[one["index"]]
    return rendered(ranks, answers)


async def similarity(request: HttpRequest, body: Body) -> Reply:
    """Return the cosine of a sentence with each of the others."""
    wanted = parsed(body, TeiSimilarityBody)
    items = wanted.items(request.context.limits)
    whole = (wanted.parameters or TeiSimilarityParameters()).whole()
    answers = await answer_items(
        request, Task.EMBED, selection(request), items, whole.ask, noun="sentence"
    )
    source, *others = (outcome.answer.vector for outcome in answers.outcomes)
    return rendered([float(_double(source) @ _double(other)) for other in others], answers)


async def default_task(request: HttpRequest, body: Body) -> Reply:
    """Do what the model is for: embed or classify `inputs`, or order `texts`."""
    if "texts" in body.values:
        return await rank(request, body)
    if isinstance(body.values.get("inputs"), dict):
        return await similarity(request, body)
    model = await text_model(request)
    by_task = {Task.CLASSIFY: predict, Task.SPARSE: embed_sparse}
    return await by_task.get(model.task, embed)(request, body)


async def predict_instances(request: HttpRequest, body: Body) -> Reply:
    """Do what the model is for with each instance, for Vertex AI."""
    instances = parsed(body, VertexBody).instances
    check_count(len(instances), request.context.limits)
    replies = []
    for index, instance in enumerate(instances):  # one by one: only one task watches the client
        try:
            replies.append(await default_task(request, Body(instance)))
        except ServiceError as error:
            raise error_from(
                {**fields_of(error), "message": f"instance {index}: {error}"}
            ) from None
    joined = b",".join(bytes(reply.body) for reply in replies)
    caches = [CacheOutcome(dict(reply.raw_headers)[b"x-cache"].decode()) for reply in replies]
    cache = (b"x-cache", together(caches).encode())
    return Reply(b'{"predictions":[%b]}' % joined, headers=[cache])


def _weights(answer: Embedding) -> Sequence[dict[str, Any]]:
    indices = () if answer.indices is None else answer.indices.tolist()
    pairs = zip(indices, answer.vector.tolist(), strict=True)
    return [{"index": index, "value": value} for index, value in pairs]


def _prediction(answer: Classification) -> Sequence[dict[str, Any]]:
    return [{"score": label.score, "label": label.name} for label in answer.labels]


def _double(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    return vector.astype(np.float64)


def tei_routes() -> Sequence[ProtocolRoute]:
    """Return the routes, at the root and below the name of a model.

    The path `/rerank`, which has other owners too, is not among them.
    """
    operations = {
        "/embed": _operation(embed, TeiEmbedBody, TeiVectors, _TEXTS),
        "/embed_all": _operation(embed_all, TeiTextsBody, TeiTokenVectors, _TEXTS),
        "/embed_sparse": _operation(embed_sparse, TeiTextsBody, TeiSparseVectors, _TEXTS, "splade"),
        "/predict": _operation(predict, TeiPredictBody, TeiPredictions, _NEWS, "news-topics"),
        "/similarity": _operation(similarity, TeiSimilarityBody, TeiSimilarities, _SENTENCES),
        "/tokenize": _operation(tokenize, TeiTokenizeBody, TeiTokens, {"inputs": "dog face"}),
        "/decode": _operation(decode, TeiDecodeBody, TeiTexts, {"ids": [1, 2]}),
    }
    default = _operation(default_task, TeiEmbedBody, TeiAnswers, _TEXTS)
    return [
        *(post(path, operation) for path, operation in operations.items()),
        *(post(BELOW_MODEL + path, operation) for path, operation in operations.items()),
        post(f"{BELOW_MODEL}/rerank", RANK),
        post("/", default),
        post("/invocations", default),
        post("/vertex", _operation(predict_instances, VertexBody, VertexAnswer, _INSTANCES)),
        post(BELOW_MODEL, default),
    ]


def _operation(
    answer: Callable[[HttpRequest, Body], Awaitable[Reply]],
    request: type[BaseModel],
    response: type[BaseModel],
    example: Mapping[str, Any],
    model: str = "emoji",
) -> Operation:
    return Operation(TEI, answer, request, response, example, path_example={"model": model})


BELOW_MODEL = "/tei/{model:path}"
_INSTANCES = {"instances": [{"inputs": "dog face"}]}
_TEXTS = {"inputs": ["dog face", "狗脸"]}
_NEWS = {"inputs": [["Stocks fall"], ["Comet seen"]]}
_SENTENCES = {"inputs": {"source_sentence": "a pet", "sentences": ["watermelon", "dog face"]}}

RANK = Operation(
    TEI,
    rank,
    TeiRerankBody,
    TeiRanking,
    {"query": "a pet", "texts": ["watermelon", "dog face"]},
    claims=lambda values: "texts" in values,
    path_example={"model": "emoji"},
)
