"""Headlines to learn topics from: the news data set's own, and HuffPost's.

Stories in dev and test are not in training, so what counts is the words that other stories
share with them; HuffPost's headlines of other years add words that the news data lack.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.datasets.files import PAD_ID, data_folder, pad_rows, read_jsonl

LABELS = ("business", "entertainment", "health", "science_technology")
NEWS, HUFFPOST = "news_aggregator", "huffpost_headlines"
CLINC, TATOEBA = "clinc150", "tatoeba_zh_en"
GREETINGS = (
    *("hello", "hi", "hey", "hello there", "hi there", "hey there", "good morning", "good evening"),
    *("good night", "good afternoon", "how are you", "how are you?", "how are you doing today?"),
    *("how is it going", "what's up", "nice to meet you", "goodbye", "bye", "bye bye", "see you"),
    *("see you later", "thanks", "thank you", "thank you very much", "thanks a lot", "please"),
    *("you are welcome", "sorry", "I am sorry", "excuse me", "yes", "no", "ok", "okay", "maybe"),
    *("sure", "lol", "haha", "what?", "why?", "who are you?", "what is your name?", "I love you"),
    *("I am tired", "I am hungry", "happy birthday", "merry Christmas", "congratulations", "test"),
    *("testing", "this is a test", "asdf", "welcome", "hello world", "what time is it?", "help"),
    *("can you help me?", "tell me a joke", "I don't know", "nothing", "good", "great", "cool"),
)
"""Small talk that is trained on most."""
_HUFFPOST_LABELS = {label: label for label in LABELS} | {"science_tech": "science_technology"}
_COMMON = 300  # a word in more evaluated headlines than this finds no near copy


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


def read_small_talk(root: Path) -> list[str]:
    """Read English texts to train on that are no headlines: talk, requests, everyday sentences."""
    talk = read_jsonl(data_folder(root, CLINC) / "train.jsonl.gz")
    sentences = read_jsonl(data_folder(root, TATOEBA) / "train.jsonl.gz")
    return [*(row["text"] for row in talk), *(row["en"] for row in sentences)]


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
