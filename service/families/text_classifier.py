"""Encoder-only transformers with a classification head: one text, one score a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInputError
from service.families.feeding import one_output
from service.families.inputs import TextInput, is_heavy_text, open_tokenizer
from service.families.labelling import best_labels, check_labels, check_top_k, ranked
from service.tasks import Classification, ClassifyItem, Text
from service.types import Lane, Sessions, Tensors, Work

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, slots=True)
class TextClassifierParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    max_length: int
    """Tokens, special ones included; a longer text loses its end."""
    pad_id: int
    tokenizer: str = "tokenizer.json"

    def __post_init__(self) -> None:
        check_labels(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class TextClassifier:
    """Task: classify. Graph `model`: input_ids, attention_mask -> logits [B, labels]."""

    labels: tuple[str, ...]
    texts: TextInput

    @classmethod
    def open(cls, folder: Path, parameters: TextClassifierParameters) -> "TextClassifier":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        tokenizer = open_tokenizer(folder, parameters.tokenizer)
        texts = TextInput(tokenizer, parameters.max_length, parameters.pad_id)
        return cls(parameters.labels, texts)

    @property
    def modalities(self) -> frozenset[str]:
        """Return "text"."""
        return frozenset({"text"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.texts.lengths, [_SESSION])]

    def is_heavy(self, item: ClassifyItem) -> bool:
        """Tell whether the text is long."""
        return isinstance(item.content, Text) and is_heavy_text(item.content.text)

    def preprocess(self, item: ClassifyItem) -> Work:
        """Tokenize. Raises InvalidInputError."""
        check_top_k(item.top_k)
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        return self.texts.work(item.content.text, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Run once, then softmax and order."""
        session = sessions[_SESSION]
        outputs = session.run(self.texts.feeds_for(session, batch))
        return ranked(one_output(outputs, "logits"), self.labels)

    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        """Name the scores."""
        return best_labels(result, self.labels, item.top_k)

    def probe(self, lane: str, length: int) -> Work:
        """Return a text of so many tokens."""
        return self.texts.probe(lane, length)
