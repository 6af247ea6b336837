"""Headlines with topics: the news data set, and HuffPost's as a second teacher.

A third of the words that tell topics apart are rare, and stories in dev and test are not in
training; HuffPost's headlines of other years add words that the news data lack.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.training.data import data_folder, pad_rows, read_jsonl

LABELS = ("business", "entertainment", "health", "science_technology")
OTHER_TOPICS = (
    *("arts", "crime", "education", "environment", "family", "food"),
    *("politics", "religion", "sports", "style", "travel", "world"),
)
NEWS, HUFFPOST = "news_aggregator", "huffpost_headlines"
_SAME_TOPIC = {"science_tech": "science_technology"}
_COMMON = 300  # a word in more evaluated headlines than this finds no near copy


@dataclass(frozen=True, slots=True)
class Headline:
    """A text, the number of its topic in `LABELS + OTHER_TOPICS`, and which set it is from."""

    text: str
    topic: int
    is_news: bool


def read_news(root: Path, split: str) -> list[Headline]:
    """Read one split of DIR/news_aggregator."""
    rows = read_jsonl(data_folder(root, NEWS) / f"{split}.jsonl.gz")
    return [Headline(row["text"], LABELS.index(row["label"]), is_news=True) for row in rows]


def read_huffpost(root: Path, excluded: Iterable[str]) -> list[Headline]:
    """Read the training headlines of DIR/huffpost_headlines that have a topic.

    Near copies (token Jaccard of 0.7 or more) of the excluded texts are left out, so that
    nothing that will be evaluated is learnt from the other source.
    """
    folder = data_folder(root, HUFFPOST)
    rows = read_jsonl(folder / "train.jsonl.gz")
    rows += read_jsonl(folder / "extra_cased_2018_2022.jsonl.gz")
    numbers = {topic: number for number, topic in enumerate((*LABELS, *OTHER_TOPICS))}
    near = NearCopies(excluded)
    return [
        Headline(row["text"], numbers[_topic(row)], is_news=False)
        for row in rows
        if row["topic"] is not None and row["text"] not in near
    ]


def _topic(row: Mapping[str, Any]) -> str:
    topic: str = row["topic"]
    return _SAME_TOPIC.get(topic, topic)


class NearCopies:
    """`text in near_copies`: whether it shares 70 % of its words with one of the texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words = [_words(text) for text in texts]
        self._holders: dict[str, list[int]] = {}
        for row, words in enumerate(self._words):
            for word in words:
                self._holders.setdefault(word, []).append(row)

    def __contains__(self, text: str) -> bool:
        words = _words(text)
        found = (self._holders.get(word, []) for word in words)
        candidates = Counter(row for rows in found if len(rows) <= _COMMON for row in rows)
        return any(
            len(words & self._words[row]) >= 0.7 * len(words | self._words[row])
            for row in candidates
        )


def _words(text: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())


@dataclass(frozen=True, slots=True)
class Headlines:
    """Tokenised headlines as numbers."""

    rows: list[list[int]]
    topics: np.ndarray
    is_news: np.ndarray

    @classmethod
    def tokenised(cls, headlines: Sequence[Headline], tokenizer: Tokenizer) -> "Headlines":
        """Tokenise; the tokenizer truncates."""
        encodings = tokenizer.encode_batch([headline.text for headline in headlines])
        return cls(
            [encoding.ids for encoding in encodings],
            np.array([headline.topic for headline in headlines], dtype=np.int64),
            np.array([headline.is_news for headline in headlines], dtype=np.bool_),
        )

    def batch(self, chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids and mask [B, T], padded with 0, topics [B] and whether from the news set."""
        ids, mask = pad_rows([self.rows[row] for row in chosen], pad_id=0)
        ids_, mask_ = torch.from_numpy(ids), torch.from_numpy(mask)
        return (
            ids_,
            mask_,
            torch.from_numpy(self.topics[chosen]),
            torch.from_numpy(self.is_news[chosen]),
        )
