"""What infinity's clients ask for besides embeddings and reranking; vLLM's form of /classify."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.api.content import as_text, check_count, each
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.models import ListedModel, listed_model
from service.api.replies import Reply
from service.errors import ServiceError
from service.protocols.bodies import Body, refuse_token_ids
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolBody,
    ProtocolRoute,
    answer_items,
    error_reply,
    get,
    parsed,
    post,
    rendered,
    selected,
)
from service.requests.admission import ApiLimits
from service.requests.answer import Answers
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.requests.usage import Usage
from service.tasks import AnyItem, Classification, ClassifyItem, Task


class InfinityErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: None
    code: int


class InfinityError(BaseModel):
    """An error of infinity, and of vLLM."""

    error: InfinityErrorDetail


def render_error(problem: Problem) -> Reply:
    """Return `{"error": {...}}`, whose code is the status."""
    detail = {
        "message": problem.detail,
        "type": problem.code,
        "param": None,
        "code": problem.status.value,
    }
    return error_reply(problem, {"error": detail})


INFINITY = Protocol("infinity", InfinityError, render_error)
VLLM = Protocol("vllm", InfinityError, render_error)


class ClassifyBody(ProtocolBody):
    """Texts to classify."""

    input: str | list[Any] = Field(description="A text, or a list of texts.")
    model: str | None = None
    raw_scores: bool = Field(
        False, description="Whether scores are the numbers of the model, before its softmax."
    )

    def items(self, limits: ApiLimits) -> Sequence[ClassifyItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        values = [self.input] if isinstance(self.input, str) else self.input
        refuse_token_ids(values)
        check_count(len(values), limits)
        return each(
            values,
            lambda value: ClassifyItem(as_text(value, limits, "input"), raw_scores=self.raw_scores),
        )


class InfinityLabel(BaseModel):
    """A label and its score."""

    score: float
    label: str


class ClassifyUsage(BaseModel):
    """Tokens of the texts that were read."""

    prompt_tokens: int
    total_tokens: int


class InfinityClasses(BaseModel):
    """The labels of each text, by descending score."""

    object: Literal["classify"]
    data: list[list[InfinityLabel]]
    model: str
    usage: ClassifyUsage
    id: str
    created: int


class VllmClass(BaseModel):
    """The best label of a text, and the probabilities in the model's order of labels."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class VllmClasses(BaseModel):
    """The best label of each text."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmClass]
    usage: ClassifyUsage


class InfinityModel(ListedModel):
    """A model that is ready."""

    stats: dict[str, Any]
    capabilities: list[str]


class InfinityModels(BaseModel):
    """The models that are ready."""

    object: Literal["list"]
    data: list[InfinityModel]


async def classify(request: HttpRequest, body: Body) -> Reply:
    """Classify texts as infinity does: every label with its score."""
    answers, asked = await _classified(request, body)
    data = [
        [{"score": label.score, "label": label.name} for label in outcome.answer.labels]
        for outcome in answers.outcomes
    ]
    return rendered(_answer(request, answers, "classify", data, asked), answers)


async def classify_as_vllm(request: HttpRequest, body: Body) -> Reply:
    """Classify texts as vLLM does: the best label, and all probabilities."""
    answers, asked = await _classified(request, body)
    data = [
        _class(index, outcome.answer, asked.labels)
        for index, outcome in enumerate(answers.outcomes)
    ]
    return rendered(_answer(request, answers, "list", data, asked), answers)


async def list_models(request: HttpRequest) -> Reply:
    """List the models that are ready, with what they can do."""
    statuses = request.context.registry.statuses()
    ready = {one.model: one for one in statuses if one.can_answer}
    capabilities = {Task.CLASSIFY: ["classify"], Task.EMBED: ["embed", "rerank"]}
    data = [
        {
            **listed_model(status),
            "owned_by": "infinity",
            "stats": {},
            "capabilities": capabilities.get(status.task, []) if status.task else [],
        }
        for status in ready.values()
    ]
    return rendered({"object": "list", "data": data})


def infinity_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    example = {"input": ["Stocks fall"], "model": "news-topics"}
    infinity = Operation(
        INFINITY,
        classify,
        ClassifyBody,
        InfinityClasses,
        {**example, "raw_scores": False},
        claims=lambda values: "raw_scores" in values,
    )
    vllm = Operation(VLLM, classify_as_vllm, ClassifyBody, VllmClasses, example)
    return [
        post("/classify", infinity, vllm),
        get("/models", INFINITY, list_models, InfinityModels),
    ]


@dataclass(slots=True)
class _Asked(Usage):
    """Also keeps the labels of the model that answered."""

    labels: Sequence[str] = ()

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        self.labels = pipeline.family.traits.labels
        return await Usage.ask(self, pipeline, item, request)


async def _classified(request: HttpRequest, body: Body) -> tuple[Answers, _Asked]:
    wanted, asked = parsed(body, ClassifyBody), _Asked()
    items = wanted.items(request.context.limits)
    answers = await answer_items(request, Task.CLASSIFY, selected(wanted.model), items, asked.ask)
    return answers, asked


def _class(index: int, answer: Classification, labels: Sequence[str]) -> Mapping[str, Any]:
    """Return the best label, and the scores in the order of `labels`, which may repeat."""
    places = {name: place for place, name in reversed(list(enumerate(labels)))}
    in_order = sorted(answer.labels, key=lambda label: places.get(label.name, len(labels)))
    return {
        "index": index,
        "label": answer.labels[0].name,
        "probs": [label.score for label in in_order],
        "num_classes": len(answer.labels),
    }


def _answer(
    request: HttpRequest, answers: Answers, kind: str, data: Any, asked: Usage
) -> Mapping[str, Any]:
    assert answers.model is not None  # noqa: S101 - every item was answered
    return {
        "id": request.request_id,
        "object": kind,
        "created": int(time.time()),
        "model": answers.model.name,
        "data": data,
        "usage": {"prompt_tokens": asked.tokens, "total_tokens": asked.tokens},
    }
