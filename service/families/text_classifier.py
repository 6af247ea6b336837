"""Encoder-only transformers with a classification head: a text, or two, and a score a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from service.errors import InvalidInputError
from service.families.family import Opened, Traits
from service.families.scores import (
    Activation,
    best_labels,
    check_labels,
    check_top_k,
    ranked,
    scores_problem,
)
from service.families.text_input import (
    TextInput,
    TextParameters,
    is_long,
    one_output,
)
from service.tasks import Classification, ClassifyItem, Text
from service.types import Lane, Model, PreparedItem, Processor, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, kw_only=True)
class TextClassifierParameters(TextParameters):
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


def open_text_classifier(
    folder: Path, parameters: TextClassifierParameters
) -> Opened[ClassifyItem, Classification]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    processor = TextClassifierProcessor(parameters.labels, texts)
    model = TextClassifierModel(parameters.labels, texts, parameters.activation)
    traits: Traits[ClassifyItem, Classification] = Traits(
        tokenizer=texts.tokenizer, max_tokens=texts.max_length, head_problem=model.head_problem
    )
    return Opened(processor, model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifierProcessor(Processor[ClassifyItem, Classification]):
    """Tokenizes texts and names scores."""

    labels: tuple[str, ...]
    texts: TextInput

    @override
    def offload(self, item: ClassifyItem) -> bool:
        text = item.content.text if isinstance(item.content, Text) else ""
        return is_long(text + (item.text_pair or ""))

    @override
    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        check_top_k(item.top_k)
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        return self.texts.prepare(item.content.text, _LANE, item.text_pair)

    @override
    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        return best_labels(result, self.labels, item.top_k)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifierModel(Model):
    """Graph `model`: input_ids, attention_mask -> logits [B, labels]."""

    labels: tuple[str, ...]
    texts: TextInput
    activation: Activation

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(_LANE, self.texts.lengths, [_SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[_SESSION]
        outputs = session.run(self.texts.feeds_for(session, batch))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.texts.probe(lane, length)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[_SESSION], self.labels)
