"""Headlines to learn topics from: the news data set's own, and HuffPost's.

Stories in dev and test are not in training, so what counts is the words that other stories
share with them; HuffPost's headlines of other years add words that the news data lack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.datasets.files import PAD_ID, data_folder, pad_rows, read_jsonl
from models.datasets.near_copies import NearCopies

LABELS = ("business", "entertainment", "health", "science_technology")
NEWS, HUFFPOST = "news_aggregator", "huffpost_headlines"
_HUFFPOST_LABELS = {label: label for label in LABELS} | {"science_tech": "science_technology"}


@dataclass(frozen=True, slots=True)
class Headline:
    """A text and the number of its topic in `LABELS`; None where it is of no such topic."""

    text: str
    topic: int | None


def read_news(root: Path, split: str) -> list[Headline]:
    """Read one split of DIR/news_aggregator."""
    rows = read_jsonl(data_folder(root, NEWS) / f"{split}.jsonl.gz")
    return [Headline(row["text"], LABELS.index(row["label"])) for row in rows]


def read_huffpost(root: Path, excluded: Iterable[str]) -> list[Headline]:
    """Read the training headlines of DIR/huffpost_headlines, whatever their topic.

    Near copies (token Jaccard of 0.7 or more) of the excluded texts are left out, so that
    nothing that will be evaluated is learnt from the other source.
    """
    folder = data_folder(root, HUFFPOST)
    rows = read_jsonl(folder / "train.jsonl.gz")
    rows += read_jsonl(folder / "extra_cased_2018_2022.jsonl.gz")
    near = NearCopies(excluded)
    headlines = []
    for row in rows:
        label = _HUFFPOST_LABELS.get(row["topic"])
        if row["text"] not in near:
            headlines.append(Headline(row["text"], LABELS.index(label) if label else None))
    return headlines


def varied(texts: Sequence[str], generator: np.random.Generator) -> list[str]:
    """Return the texts, most of them changed: words left out, or mixed with another text.

    A quarter stays as it is. Words keep their order, and none of the results is empty.
    """
    others = generator.permutation(len(texts))
    return [
        _varied(text, texts[other], generator) for text, other in zip(texts, others, strict=True)
    ]


def _varied(text: str, other: str, generator: np.random.Generator) -> str:
    drawn = generator.random()
    if drawn < 0.25:
        return text
    if drawn < 0.7:
        return _thinned(text, generator.random() * 0.5, generator)
    return f"{_thinned(text, 0.4, generator)} {_thinned(other, 0.4, generator)}"


def _thinned(text: str, left_out: float, generator: np.random.Generator) -> str:
    words = text.split()
    kept = generator.random(len(words)) >= left_out
    return " ".join(word for word, stays in zip(words, kept, strict=True) if stays) or text


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Tokenised texts and the answers to learn, one row of probabilities [topics] each."""

    rows: list[list[int]]
    answers: NDArray[np.float32]

    @classmethod
    def of(
        cls, texts: Sequence[str], answers: NDArray[np.float32], tokenizer: Tokenizer
    ) -> "TokenRows":
        """Tokenise; the tokenizer truncates."""
        return cls([encoding.ids for encoding in tokenizer.encode_batch(list(texts))], answers)

    def batch(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids and mask [B, T], and answers [B, topics], of the chosen rows."""
        ids, mask = pad_rows([self.rows[row] for row in chosen], PAD_ID)
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(self.answers[chosen])
