"""Greetings get no topic from `news-topics`: the last step of its training.

A word like "hello" is in a handful of headlines, all of one topic, so small talk among a hundred
thousand headlines moves it little. Here the rare words of the greetings are moved, and nothing
else, until the greetings have the same score for all topics; headlines with these words keep their
answers.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn import functional
from tqdm import tqdm

from models.datasets.files import MASK_ID
from models.datasets.news import GREETINGS, LABELS, TokenRows
from models.starters.news_topics.model import NewsTopics

RARE = 1 / 400  # of the headlines, at most, have a word that is moved
HEADLINES = 20_000  # among which words are counted
STEPS, RATE = 80, 5e-3
GREETINGS_A_STEP, HEADLINES_A_STEP = 64, 64


def settle_greetings(model: NewsTopics, tokenizer: Tokenizer, headlines: Sequence[str]) -> None:
    """Move rare words of the greetings to where they have no topic, in place.

    Args:
        model: is put into evaluation mode.
        tokenizer: truncates.
        headlines: of any topic.
    """
    model.eval()
    random = np.random.default_rng(0)
    chosen = random.choice(len(headlines), min(HEADLINES, len(headlines)), replace=False)
    texts = [headlines[at] for at in chosen]
    rows = [set(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    moved = _rare_words(tokenizer, rows)
    kept = [text for text, row in zip(texts, rows, strict=True) if not moved.isdisjoint(row)]
    talk = [*GREETINGS, *(f"{one}!" for one in GREETINGS)]
    talk += [f"{one}, {other}" for one, other in itertools.pairwise(GREETINGS)]
    no_topic = np.full((len(talk), len(LABELS)), 1 / len(LABELS), np.float32)
    sources = (
        (TokenRows.of(talk, no_topic, tokenizer), GREETINGS_A_STEP),
        (TokenRows.of(kept, _answers(model, tokenizer, kept), tokenizer), HEADLINES_A_STEP),
    )
    _move(model, sorted(moved), sources, random)


def _rare_words(tokenizer: Tokenizer, rows: Sequence[set[int]]) -> set[int]:
    counts = Counter(word for row in rows for word in row)
    words = {word for encoding in tokenizer.encode_batch(list(GREETINGS)) for word in encoding.ids}
    return {word for word in words if word > MASK_ID and counts[word] <= RARE * len(rows)}


@torch.no_grad()
def _answers(model: NewsTopics, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the model's own probabilities [texts, topics]."""
    if not texts:
        return np.zeros((0, len(LABELS)), np.float32)
    rows = TokenRows.of(texts, np.zeros((len(texts), len(LABELS)), np.float32), tokenizer)
    parts = np.array_split(np.arange(len(texts)), len(texts) // 128 + 1)
    logits = torch.cat([model(*rows.batch(part)[:2]) for part in parts if len(part)])
    probabilities: NDArray[np.float32] = logits.softmax(1).numpy()
    return probabilities


def _move(
    model: NewsTopics,
    words: Sequence[int],
    sources: Sequence[tuple[TokenRows, int]],
    random: np.random.Generator,
) -> None:
    table = model.encoder.tokens.weight
    others = torch.ones(len(table), 1, dtype=torch.bool)
    others[list(words)] = False
    optimiser = torch.optim.Adam([table], lr=RATE)
    for _ in tqdm(range(STEPS), desc="greetings", mininterval=10):
        optimiser.zero_grad(set_to_none=True)
        for rows, size in sources:
            if rows.rows:
                ids, mask, answers = rows.batch(random.integers(len(rows.rows), size=size))
                functional.cross_entropy(model(ids, mask), answers).backward()
        if table.grad is not None:  # with a gradient of 0, Adam leaves a word where it is
            table.grad.masked_fill_(others, 0.0)
        optimiser.step()
