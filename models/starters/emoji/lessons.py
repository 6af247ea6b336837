"""What the text tower of `emoji` reads, and the answers that it should give.

A batch holds captions (names and keywords of emoji, alone or in a short sentence), paraphrases,
and everyday sentences in both languages. Captions and paraphrases belong to one emoji;
sentences have the answers of the sentence model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from models.datasets.emoji import LANGUAGES, Concept, is_chinese
from models.datasets.files import Pair, data_folder, pad_rows, read_jsonl
from models.datasets.translation import LONGEST_WORD, read_lexicon
from models.starters.emoji.teacher import Space, Teacher, spread

CAPTION_SHARE, PARAPHRASE_SHARE = 0.40, 0.10  # of a batch; the rest are sentences
OWN_SHARE = 0.75  # of the answer to a caption; the rest are emoji that its English name is near to
TEMPLATED = 0.3  # of captions
TEMPLATES: Mapping[str, Sequence[str]] = {
    "en": (
        *("I want {}", "I like {}", "I see a {}", "look, a {}", "where is the {}?", "a {}"),
        *("the {}", "a picture of a {}", "{}!", "do you have a {}?", "this is a {}"),
        *("my {}", "we need a {}", "give me the {}", "an emoji of {}", "I saw a {} yesterday"),
    ),
    "zh": (
        *("我想要{}", "我喜欢{}", "我看见{}", "看，{}", "{}在哪里？", "一个{}", "这是{}"),
        *("{}的图片", "{}！", "你有{}吗？", "我的{}", "给我{}", "我们需要{}", "昨天我看到了{}"),
    ),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Ids and mask [B, T]; the emoji to answer [B, concepts]; where to be [B, DIMENSIONS]."""

    ids: Tensor
    mask: Tensor
    answers: Tensor
    places: Tensor


def read_sentences(data: Path) -> list[Pair]:
    """Return everyday sentences and single words in Chinese and English.

    Every second sentence of each source; the words of the dictionary that occur in them.
    """
    folders = [data_folder(data, name) for name in ("tatoeba_zh_en", "massive_en_zh")]
    rows = [row for folder in folders for row in read_jsonl(folder / "train.jsonl.gz")[::2]]
    pairs = [Pair(row["zh"], row["en"]) for row in rows]
    written = {
        pair.zh[at : at + length]
        for pair in pairs
        for at in range(len(pair.zh))
        for length in range(1, LONGEST_WORD + 1)
    }
    return [*pairs, *(pair for pair in read_lexicon(data) if pair.zh in written)]


class Words:
    """Turns texts into the text tower's inputs."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids by text, cut to the longest that the tower reads."""
        found = self._tokenizer.encode_batch(list(texts))
        return [encoding.ids[: self._max_length] for encoding in found]

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and mask [B, longest], padded with 0."""
        ids, mask = pad_rows(self.rows(texts), pad_id=0)
        return torch.from_numpy(ids), torch.from_numpy(mask)


class Lessons:
    """Endless batches; the same seed draws the same ones."""

    def __init__(
        self,
        concepts: Sequence[Concept],
        paraphrases: Mapping[str, Sequence[str]],
        teacher: Teacher,
        space: Space,
        sentences: Sequence[Pair],
        words: Words,
    ) -> None:
        self._concepts, self._words = concepts, words
        self._random = np.random.default_rng(0)
        self._paraphrases = [
            (at, text)
            for at, one in enumerate(concepts)
            for text in paraphrases.get(one.names["en"], ())
        ]
        self._places = teacher.places
        self._near = teacher.answers(space([one.names["en"] for one in concepts]))
        vectors = space([pair.en for pair in sentences])
        self._vectors, self._answers = vectors, teacher.answers(vectors)
        self._rows = {
            "en": words.rows([pair.en for pair in sentences]),
            "zh": words.rows([pair.zh for pair in sentences]),
        }

    def batch(self, size: int) -> Batch:
        """Draw a batch of texts."""
        captions, paraphrases = int(size * CAPTION_SHARE), int(size * PARAPHRASE_SHARE)
        at, texts = self._captions(captions)
        chosen = self._random.integers(len(self._paraphrases), size=paraphrases)
        at = np.concatenate([at, [self._paraphrases[row][0] for row in chosen]])
        texts += [self._paraphrases[row][1] for row in chosen]
        picked = self._random.integers(len(self._vectors), size=size - len(texts))
        rows = self._words.rows(texts) + [
            self._rows["en" if self._random.random() < 0.5 else "zh"][row] for row in picked
        ]
        ids, mask = pad_rows(rows, pad_id=0)
        own = torch.nn.functional.one_hot(torch.from_numpy(at), len(self._concepts))
        near = spread(self._near, at, len(self._concepts))
        taught = spread(self._answers, picked, len(self._concepts))
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            torch.cat([OWN_SHARE * own + (1 - OWN_SHARE) * near, taught]),
            torch.from_numpy(np.concatenate([self._places[at], self._vectors[picked]])),
        )

    def _captions(self, count: int) -> tuple[NDArray[np.int64], list[str]]:
        """Return captions of random concepts, in either language, and which they are of."""
        at = self._random.integers(len(self._concepts), size=count)
        languages = self._random.choice(LANGUAGES, size=count)
        return at, [
            self._caption(self._concepts[place], str(language))
            for place, language in zip(at, languages, strict=True)
        ]

    def _caption(self, concept: Concept, language: str) -> str:
        if self._random.random() >= TEMPLATED:
            return concept.caption(language, self._random)
        options = [concept.names[language], *concept.keywords[language]]
        # The name as often as all keywords together.
        name = self._random.random() < 0.5
        filled = options[0] if name else options[int(self._random.integers(len(options)))]
        template = TEMPLATES[language][int(self._random.integers(len(TEMPLATES[language])))]
        return template.format(filled)


def english(paraphrases: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return only the phrases that the sentence model can read."""
    return {
        name: [text for text in texts if not is_chinese(text)]
        for name, texts in paraphrases.items()
    }
