"""Classifiers of texts and of images: a network with a classification head, a score a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError, InvalidInputError
from service.families.family import (
    LANE,
    SESSION,
    EntailmentScores,
    Opened,
    SingleGraphModel,
    Traits,
    check_labels,
    check_template,
)
from service.families.image_input import ImageInput, ImageParameters
from service.families.text_input import TextInput, TextParameters, is_long, one_output
from service.tasks import (
    Ability,
    Classification,
    ClassifyItem,
    ComposedTask,
    Label,
    Text,
)
from service.types import PreparedItem, Processor, Sessions, Tensors, TensorSpec

_RANK = 2

Activation: TypeAlias = Literal["softmax", "sigmoid", "none"]
"""What makes scores of logits: one label of all, each label by itself, or the graph already."""


@dataclass(frozen=True, kw_only=True)
class TextClassifierParameters(TextParameters):
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""
    hypothesis_template: str = "This example is {}."
    """What makes a hypothesis of a label that a request gives, for a model of natural language
    inference: one of its labels begins with "entail"."""
    eos_id: int | None = None
    """End token at whose last place the network reads the text (BART, T5). It needs batches whose
    rows hold equally many of them: two texts as one hold more than a single text."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_template(self.hypothesis_template)

    @property
    def label_scores(self) -> EntailmentScores | None:
        """Return how it scores given labels, by the rules of transformers' pipeline."""
        kinds = [label.lower().startswith("entail") for label in self.labels]
        if not any(kinds) or len(set(self.labels)) < max(2, len(kinds)):
            return None
        place = kinds.index(True)
        other = self.labels[-1 if place == 0 else 0]
        return EntailmentScores(self.labels[place], other, self.hypothesis_template)


def text_classifier_abilities(parameters: TextClassifierParameters) -> frozenset[Ability]:
    """Return what can be composed of its answers.

    A single label is taken for a reranker's, which scores pairs of a query and a text.
    """
    if parameters.label_scores is not None:
        return frozenset({(ComposedTask.ZERO_SHOT, "text")})
    return frozenset({(ComposedTask.RERANK, "text")} if len(parameters.labels) == 1 else ())


def open_text_classifier(
    folder: Path, parameters: TextClassifierParameters
) -> Opened[ClassifyItem, Classification]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    processor = TextClassifierProcessor(parameters.labels, texts, parameters.eos_id)
    model = TextClassifierModel(texts, parameters.labels, parameters.activation)
    traits: Traits[ClassifyItem, Classification] = Traits(
        tokenizer=texts.tokenizer,
        max_tokens=texts.max_length,
        labels=parameters.labels,
        head_problem=model.head_problem,
        label_scores=parameters.label_scores,
    )
    return Opened(processor, model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifierProcessor(Processor[ClassifyItem, Classification]):
    """Tokenizes texts and names scores."""

    labels: tuple[str, ...]
    texts: TextInput
    eos_id: int | None = None

    @override
    def offload(self, item: ClassifyItem) -> bool:
        text = item.content.text if isinstance(item.content, Text) else ""
        return is_long(text + (item.text_pair or ""))

    @override
    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        check_top_k(item.top_k)
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        prepared = self.texts.prepare(item.content.text, LANE, item.text_pair)
        if self.eos_id is None:
            return prepared
        ends = int(np.count_nonzero(prepared.tensors["input_ids"] == self.eos_id))
        return replace(prepared, group=(ends,))

    @override
    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        return best_labels(result, self.labels, item)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifierModel(SingleGraphModel[TextInput]):
    """Graph `model`: input_ids, attention_mask -> logits [B, labels]."""

    labels: tuple[str, ...]
    activation: Activation

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[SESSION], self.labels)


@dataclass(frozen=True, kw_only=True)
class ImageClassifierParameters(ImageParameters):
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


def open_image_classifier(
    folder: Path, parameters: ImageClassifierParameters
) -> Opened[ClassifyItem, Classification]:
    """Use nothing of the folder. Raises ValueError."""
    images = ImageInput.of(parameters)
    model = ImageClassifierModel(images, parameters.labels, parameters.activation)
    traits: Traits[ClassifyItem, Classification] = Traits(head_problem=model.head_problem)
    return Opened(ImageClassifierProcessor(parameters.labels, images), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifierProcessor(Processor[ClassifyItem, Classification]):
    """Decodes images and names scores."""

    labels: tuple[str, ...]
    images: ImageInput

    @override
    def offload(self, item: ClassifyItem) -> bool:
        return True

    @override
    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        check_top_k(item.top_k)
        if isinstance(item.content, Text):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.prepare(item.content, LANE)

    @override
    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        return best_labels(result, self.labels, item)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifierModel(SingleGraphModel[ImageInput]):
    """Graph `model`: pixel_values -> logits [B, labels]."""

    labels: tuple[str, ...]
    activation: Activation

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[SESSION], self.labels)


def check_top_k(top_k: int | None) -> None:
    """Check that at least one label is wanted. Raises InvalidInputError."""
    if top_k is not None and top_k < 1:
        raise InvalidInputError("top_k must be at least 1")


def ranked(
    logits: NDArray[Any], labels: Sequence[str], activation: Activation = "softmax"
) -> Sequence[Tensors]:
    """Return each row's scores and logits in descending order, with the index of each's label.

    Equal scores stay in the order in which the model names its labels.

    Raises:
        InferenceError: the graph gives another number of scores than there are labels, or one
            that is not finite (the batcher then finds out which row's).
    """
    if logits.ndim != _RANK:
        raise InferenceError(f"the graph gives scores of {logits.ndim} axes instead of {_RANK}")
    if logits.shape[1] != len(labels):
        raise InferenceError(f"the graph gives {logits.shape[1]} scores for {len(labels)} labels")
    logits = logits.astype(np.float32, copy=False)
    if not np.logical_and.reduce(np.isfinite(logits), axis=None):
        raise InferenceError("the graph gives a score that is not a finite number")
    scores = _scores(logits, activation)
    order = (-scores).argsort(axis=1, kind="stable")
    return [
        {"scores": row[places], "order": places, "logits": numbers[places]}
        for row, places, numbers in zip(scores, order, logits, strict=True)
    ]


def scores_problem(outputs: Mapping[str, TensorSpec], labels: Sequence[str]) -> str | None:
    """Return why a graph with these outputs cannot score these labels; None if it can."""
    if "logits" not in outputs and len(outputs) > 1:
        return f"the graph gives {', '.join(outputs)}, but no 'logits'"
    shape = outputs.get("logits", next(iter(outputs.values()))).shape
    if shape and len(shape) != _RANK:
        return f"the graph gives scores of {len(shape)} axes instead of {_RANK}"
    if shape and shape[1] not in (None, len(labels)):
        return f"the graph gives {shape[1]} scores for {len(labels)} labels"
    return None


def best_labels(result: Tensors, labels: Sequence[str], item: ClassifyItem) -> Classification:
    """Return the labels that an item asks for, of one row of `ranked`."""
    names = [labels[place] for place in result["order"][: item.top_k].tolist()]
    scores = result["logits" if item.raw_scores else "scores"][: item.top_k]
    return Classification(tuple(map(Label, names, scores.tolist())))


def _scores(logits: NDArray[np.float32], activation: Activation) -> NDArray[Any]:
    scores: NDArray[Any]
    match activation:
        case "softmax":
            # ufuncs directly: the methods of an array call them through Python.
            largest: NDArray[np.float32] = np.maximum.reduce(logits, axis=1, keepdims=True)
            exponentials = np.exp(logits - largest)
            sums: NDArray[np.float32] = np.add.reduce(exponentials, axis=1, keepdims=True)
            scores = exponentials / sums
        case "sigmoid":
            # In float32 all logits over 17 would score exactly 1, and rank alike.
            with np.errstate(over="ignore"):  # infinity's inverse is 0, which is right
                scores = np.reciprocal(1 + np.exp(-logits.astype(np.float64)))
        case "none":
            scores = logits
    return scores
