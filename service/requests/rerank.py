"""Score documents against a query, with a classifier of pairs or an embedder.

A pair, or the vector of the query or of a document, is an ordinary item: it is batched and cached
as any other.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np

from service.errors import ServiceError, error_from, fields_of
from service.requests.answer import Answers, Ask, Models, answer, ask_pipeline, found
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request, Selection
from service.tasks import (
    AnyItem,
    Classification,
    ClassifyItem,
    ComposedTask,
    Embedding,
    EmbedItem,
    Task,
    Text,
)

_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names of prompts that sentence-transformers looks for, in its order."""


async def rerank(  # noqa: PLR0913
    models: Models,
    request: Request,
    selection: Selection,
    query: Text,
    documents: Sequence[Text | ServiceError],
    ask: Ask = ask_pipeline,
    *,
    raw_scores: bool | None = None,
) -> Answers:
    """Score every document. Cancel the coroutine when its client has disconnected.

    A classifier of pairs gives the score of its only label; an embedder the cosine between query
    and document, with the prompts for these if it has them.

    Args:
        models: the models that can be asked.
        request: deadline, priority and cache mode of every item.
        selection: the model to ask; else the default for reranking.
        query: what the documents are compared with.
        documents: in order; a document that could not be parsed is given as its error.
        ask: asks a pipeline for one item.
        raw_scores: of a classifier, whether to return its number as it is (True) or between 0 and
            1 by the sigmoid (False). None is the model's own way.

    Returns:
        A float as the answer of each document, in order.

    Raises:
        ServiceError: no model can answer the request, or the query could not be computed.
    """
    task = ComposedTask.RERANK
    key = request.sticky or request.id
    find = partial(models.find, task, "text", selection.model, selection.version, key)
    pipeline = await found(find, request)
    exact = Selection(pipeline.model.name, pipeline.model.version)
    with pipeline.held():
        if pipeline.task is Task.EMBED:
            items = _texts(pipeline, query, documents)
            answers = await answer(models, request, task, exact, items, ask)
            return with_cosines(answers, "query")
        wants_raw = raw_scores is not None
        pairs: list[AnyItem | ServiceError] = [
            document
            if isinstance(document, ServiceError)
            else ClassifyItem(query, text_pair=document.text, raw_scores=wants_raw)
            for document in documents
        ]
        answers = await answer(models, request, task, exact, pairs, ask)
    return _scored(answers, [_score(result, raw_scores) for result in answers.results])


def ranking(scores: Sequence[float], top_n: int | None = None) -> list[int]:
    """Return the places of scores by descending score; equal scores stay in order."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return order[:top_n]


def query_prompt(prompts: Collection[str]) -> str | None:
    """Return the name of a model's prompt for queries; None if it has none."""
    return "query" if "query" in prompts else None


def document_prompt(prompts: Collection[str]) -> str | None:
    """Return the name of a model's prompt for documents; None if it has none."""
    return next((name for name in _DOCUMENT_PROMPTS if name in prompts), None)


def _texts(
    pipeline: Pipeline[Any, Any], query: Text, documents: Sequence[Text | ServiceError]
) -> list[AnyItem | ServiceError]:
    """Return the query and the documents as items of an embedder."""
    prompts = pipeline.family.traits.prompts
    prompt = document_prompt(prompts)
    return [
        EmbedItem(query, query_prompt(prompts)),
        *(
            document if isinstance(document, ServiceError) else EmbedItem(document, prompt)
            for document in documents
        ),
    ]


def with_cosines(answers: Answers, called: str) -> Answers:
    """Return the cosine of the first answer's vector with each of the others.

    Raises:
        ServiceError: the first item failed; the message begins with what it is `called`.
    """
    first, *others = answers.results
    if isinstance(first, ServiceError):
        raise error_from({**fields_of(first), "message": f"{called}: {first}"})
    vector = _unit(first.answer)
    scores = [
        result if isinstance(result, ServiceError) else float(_unit(result.answer) @ vector)
        for result in others
    ]
    return _scored(Answers(answers.model, others, (), answers.cache), scores)


def _unit(embedding: Embedding) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a vector of unit length; zeros stay zeros."""
    vector = embedding.vector.astype(np.float64)
    return vector / (np.linalg.norm(vector) or 1.0)


def _score(result: Outcome[Classification] | ServiceError, raw_scores: bool | None) -> Any:
    if isinstance(result, ServiceError):
        return result
    score = result.answer.labels[0].score
    if raw_scores is False:
        with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
            return float(1 / (1 + np.exp(-np.float64(score))))
    return score


def _scored(answers: Answers, scores: Sequence[float | ServiceError]) -> Answers:
    """Return the answers with a score in place of each answer."""
    results = [
        Outcome(score, result.cache, result.timings)
        if isinstance(result, Outcome) and not isinstance(score, ServiceError)
        else result
        for result, score in zip(answers.results, scores, strict=True)
    ]
    outcomes = [result for result in results if isinstance(result, Outcome)]
    return Answers(answers.model, results, outcomes, answers.cache)
