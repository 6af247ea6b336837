"""Encoder-only transformers with a classification head: a text, or two, and a score a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import InvalidInputError
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
    is_heavy_text,
    one_output,
    open_tokenizer,
    preprocessed,
)
from service.tasks import Classification, ClassifyItem, Text
from service.types import Lane, PreparedItem, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, slots=True)
class TextClassifierParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    max_length: int
    """Tokens, special ones included; a longer text is cut."""
    pad_id: int
    """Token that shorter texts of a batch are padded with."""
    tokenizer: str = "tokenizer.json"
    """File of the tokenizer."""
    tokenizer_class: str = ""
    """transformers' name, such as "BertTokenizer"; only tokenizer.json does without."""
    truncation_side: Literal["right", "left"] = "right"
    """Which end of a longer text is cut."""
    lowercases: bool = False
    """Whether texts are lowercased before all else, whatever the tokenizer does."""
    pads_to_max_length: bool = False
    """Whether every batch is as wide as can be, for a graph of that one width."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""
    first_position: int = 0
    """Of `position_ids`, for a graph that takes them."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifier:
    """Task: classify. Graph `model`: input_ids, attention_mask -> logits [B, labels]."""

    labels: tuple[str, ...]
    texts: TextInput
    activation: Activation

    @classmethod
    def open(cls, folder: Path, parameters: TextClassifierParameters) -> "TextClassifier":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        tokenizer = open_tokenizer(
            folder,
            parameters.tokenizer,
            parameters.tokenizer_class,
            cuts_the_end=parameters.truncation_side == "right",
            lowercases=parameters.lowercases,
        )
        texts = TextInput(
            tokenizer,
            parameters.max_length,
            parameters.pad_id,
            parameters.pads_to_max_length,
            first_position=parameters.first_position,
        )
        return cls(parameters.labels, texts, parameters.activation)

    @property
    def modalities(self) -> frozenset[str]:
        """Return "text"."""
        return frozenset({"text"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, [_SESSION])]

    def is_heavy(self, item: ClassifyItem) -> bool:
        """Tell whether the text, or the two together, is long."""
        texts = item.content.text if isinstance(item.content, Text) else ""
        return is_heavy_text(texts + (item.text_pair or ""))

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        """Tokenize. Raises InvalidInputError."""
        check_top_k(item.top_k)
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        return self.texts.work(item.content.text, _LANE, item.text_pair)

    def preprocess_all(self, items: Sequence[ClassifyItem]) -> Sequence[PreparedItem | Exception]:
        """Tokenize single texts in one go, the rest one by one."""
        return preprocessed(items, _single_text, self.preprocess, self._works)

    def _works(self, texts: Sequence[str]) -> Sequence[PreparedItem | InvalidInputError]:
        return self.texts.works(texts, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run once, then make scores of the logits, and order them."""
        session = sessions[_SESSION]
        outputs = session.run(self.texts.feeds_for(session, batch))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        """Name the scores."""
        return best_labels(result, self.labels, item.top_k)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[_SESSION], self.labels)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens."""
        return self.texts.probe(lane, length)


def _single_text(item: ClassifyItem) -> str | None:
    """Return the text of an item that is nothing else and cannot be refused for anything else."""
    if isinstance(item.content, Text) and item.text_pair is None and item.top_k is None:
        return item.content.text
    return None
