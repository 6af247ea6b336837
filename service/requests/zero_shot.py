"""Classify by labels that the request gives, with a model that was not trained on them.

An embedder compares the vector of a text or an image with the vectors of the labels; a classifier
of pairs says whether a text entails a hypothesis that names the label. A label's vector or pair is
an ordinary item: it is batched and cached as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.cache.responses import CacheOutcome, cache_key, together
from service.errors import InvalidInputError, LimitExceededError, ServiceError
from service.families.family import CosineScores, EntailmentScores
from service.requests.admission import MOST_LABELS
from service.requests.answer import Answers, Ask, Models, Pipelines, answer, find_pipelines, found
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request, Selection
from service.requests.windowed import Window
from service.tasks import (
    Classification,
    ClassifyItem,
    ComposedTask,
    Embedding,
    EmbedItem,
    Label,
    Task,
    Text,
    fingerprint,
)
from service.telemetry.record import longest

FEWEST_LABELS = 2

_PLACE = "{}"


@dataclass(frozen=True, slots=True)
class GivenLabels:
    """What to choose among.

    Raises:
        InvalidInputError: there are too few labels, one is empty or given twice, or the template
            has no place for a label.
        LimitExceededError: there are more than `MOST_LABELS`.
    """

    names: tuple[str, ...]
    template: str | None = None
    """What to put around each label; None is the model's own."""
    multi_label: bool | None = None
    """Whether each label is scored by itself, so that several can be right. None is the model's
    own way: one of all, except by models that were trained with a sigmoid."""

    def __post_init__(self) -> None:
        if len(self.names) < FEWEST_LABELS:
            raise InvalidInputError(f"labels must be {FEWEST_LABELS} or more")
        if len(self.names) > MOST_LABELS:
            raise LimitExceededError(
                f"{len(self.names)} labels are over the limit of {MOST_LABELS}"
            )
        seen: dict[str, int] = {}
        for place, name in enumerate(self.names):
            if not name or name.isspace():
                raise InvalidInputError(f"labels[{place}] is empty")
            if (first := seen.setdefault(name, place)) != place:
                raise InvalidInputError(f"labels[{place}] repeats labels[{first}]: {name[:40]!r}")
        if self.template is not None and _PLACE not in self.template:
            raise InvalidInputError("hypothesis_template must contain {}, where the label goes")

    def phrases(self, template: str) -> list[str]:
        """Return each label in the request's template, else in this one."""
        chosen = template if self.template is None else self.template
        return [chosen.replace(_PLACE, name) for name in self.names]

    def called(self) -> list[str]:
        """Return what to call each label in an error."""
        return [f"labels[{place}]" for place in range(len(self.names))]


async def classify_by_labels(
    models: Models,
    request: Request,
    selection: Selection,
    items: Sequence[ClassifyItem | ServiceError],
    labels: GivenLabels,
) -> Answers:
    """Answer texts, or images, with the given labels. Cancel it when the client has disconnected.

    Args:
        models: the models that can be asked.
        request: deadline, priority and cache mode of every item and label.
        selection: an embedder, or a classifier of pairs; else the default for given labels.
        items: in order, of one modality; an item that could not be parsed is given as its error.
        labels: what to choose among.

    Raises:
        ServiceError: no model can answer the request, or a label could not be computed; the
            message then begins with `labels[PLACE]`.
    """
    task = ComposedTask.ZERO_SHOT
    find = partial(find_pipelines, models, task, selection, items, request.sticky or request.id)
    pipelines = await found(find, request)
    if not pipelines:
        return await answer(models, request, task, selection, items)
    (pipeline,) = pipelines.values()
    request.record.model = pipeline.model
    with pipeline.held():  # a reload must not close it between the labels and the items
        ask = await asking(pipeline, request, labels, next(iter(pipelines)))
        of_labels = request.record.timings
        answers = await answer(_Found(pipelines), request, task, selection, items, ask)
    known = [one for one in (of_labels, request.record.timings) if one is not None]
    request.record.timings = longest(known) if known else None
    return answers


@dataclass(frozen=True, slots=True)
class _Found:
    """The models of a request that has found them: a reload must not change them."""

    pipelines: Pipelines

    def find(
        self,
        task: Task | ComposedTask,
        modality: str,
        model: str | None,
        version: int | None,
        key: str = "",
    ) -> Pipeline[Any, Any]:
        """Return the pipeline of the modality."""
        return self.pipelines[modality]


async def asking(
    pipeline: Pipeline[Any, Any], request: Request, labels: GivenLabels, kind: str
) -> Ask:
    """Return what asks a pipeline for one item of this modality. Raises ServiceError."""
    how, window = pipeline.family.traits.label_scores, Window(pipeline, request)
    match how:
        case CosineScores():
            is_independent = how.is_independent and kind == "image"
            if labels.multi_label and not is_independent:
                raise InvalidInputError(
                    f"multi_label: model {pipeline.model.name!r} does not score {kind}s by one "
                    "label at a time; a model of natural language inference does"
                )
            vectors, cache = await _label_vectors(pipeline, request, labels, how, kind, window)
            return _ByCosine(labels, how, kind == "image", _unit(vectors), cache).ask
        case EntailmentScores():
            return _ByEntailment(labels, how, labels.phrases(how.template), window).ask
        case None:
            raise InvalidInputError(f"model {pipeline.model.name!r} scores no given labels")


@dataclass(frozen=True, slots=True)
class _LabelSet:
    """All labels of a request as one item of the cache, which saves a look-up for each."""

    phrases: Sequence[str]

    def fingerprint(self) -> bytes:
        """Return the phrases in order, marked as a set."""
        return fingerprint("label set", *self.phrases)


async def _label_vectors(
    pipeline: Pipeline[Any, Any],
    request: Request,
    labels: GivenLabels,
    how: CosineScores,
    kind: str,
    window: Window,
) -> tuple[NDArray[np.float32], CacheOutcome]:
    """Return one vector a label, [L, D], and where they came from. Raises ServiceError."""
    phrases = labels.phrases(how.template if kind == "image" else _PLACE)
    outcomes: list[Outcome[Embedding]] = []

    async def compute() -> Embedding:
        items = [EmbedItem(Text(phrase)) for phrase in phrases]
        outcomes.extend(await window.answer(items, labels.called()))
        request.record.timings = longest([outcome.timings for outcome in outcomes])
        return Embedding(np.concatenate([outcome.answer.vector for outcome in outcomes]))

    key = cache_key(pipeline.task, pipeline.model, _LabelSet(phrases))
    whole, cache = await pipeline.cache.get_or_compute(
        key, pipeline.task, compute, mode=request.cache, deadline=request.deadline
    )
    if outcomes:
        cache = together(outcome.cache for outcome in outcomes)
    return whole.vector.reshape(len(phrases), -1), cache


@dataclass(frozen=True, slots=True, eq=False)
class _ByCosine:
    labels: GivenLabels
    how: CosineScores
    is_of_images: bool
    vectors: NDArray[np.float64]
    """Of the labels, each of unit length."""
    cache: CacheOutcome
    """Where they came from."""

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: ClassifyItem, request: Request
    ) -> Outcome[Classification]:
        """Return the labels of one item. Raises ServiceError."""
        if item.text_pair is not None:
            raise InvalidInputError("an embedder scores labels of one text, not of a pair")
        found = await pipeline.answer(EmbedItem(item.content), request)
        (vector,) = _unit(found.answer.vector[None])
        # Texts are nearer to one another than to images: the bias is learned for images.
        bias = self.how.bias if self.is_of_images else 0.0
        logits = self.vectors @ vector * self.how.scale + bias
        is_one_by_one = self.how.is_independent and self.is_of_images
        if is_one_by_one and self.labels.multi_label is not False:
            scores = _sigmoid(logits)
        else:
            scores = _softmax(logits)
        answer = _ranked(self.labels.names, scores, item.top_k)
        return Outcome(answer, together((self.cache, found.cache)), found.timings)


@dataclass(frozen=True, slots=True, eq=False)
class _ByEntailment:
    labels: GivenLabels
    how: EntailmentScores
    hypotheses: Sequence[str]
    window: Window

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: ClassifyItem, request: Request
    ) -> Outcome[Classification]:
        """Return the labels of one item. Raises ServiceError."""
        if item.text_pair is not None:
            raise InvalidInputError("a hypothesis is paired with one text, not with a pair")
        pairs = [
            ClassifyItem(item.content, text_pair=hypothesis, raw_scores=True)
            for hypothesis in self.hypotheses
        ]
        called = [f"the text with {name}" for name in self.labels.called()]
        found = await self.window.answer(pairs, called)
        logits = [{label.name: label.score for label in outcome.answer.labels} for outcome in found]
        entailed = np.array([row[self.how.entailment] for row in logits])
        if self.labels.multi_label:
            scores = _sigmoid(entailed - [row[self.how.contradiction] for row in logits])
        else:
            scores = _softmax(entailed)
        return Outcome(
            _ranked(self.labels.names, scores, item.top_k),
            together(outcome.cache for outcome in found),
            longest([outcome.timings for outcome in found]),
        )


def _ranked(names: Sequence[str], scores: NDArray[np.float64], top_k: int | None) -> Classification:
    """Return labels by descending score; equal scores stay in the order of the request."""
    order = (-scores).argsort(kind="stable")[:top_k]
    chosen = zip(order.tolist(), scores[order].tolist(), strict=True)
    return Classification(tuple(Label(names[place], score) for place, score in chosen))


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows of unit length; a row of zeros stays one."""
    doubles = vectors.astype(np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    scaled: NDArray[np.float64] = doubles / lengths
    return scaled


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max())
    scores: NDArray[np.float64] = exponentials / exponentials.sum()
    return scores


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return scores
