"""Trains `news-topics`: the topic of an English news headline, by a small Transformer encoder.

A linear model over n-grams is trained on the labels first (`news_teacher`); the Transformer
then learns its answers to all headlines and to endless variations of them.

Data: the UCI News Aggregator (Gasparetti, 2016), https://archive.ics.uci.edu/dataset/359 ,
CC BY 4.0, read from DIR/news_aggregator; and the News Category Dataset (Misra, 2022),
https://www.kaggle.com/datasets/rmisra/news-category-dataset , CC BY 4.0, read from
DIR/huffpost_headlines. About 20 minutes on one CPU core:

    python -m models.starters.news_topics.train --data DIR --out runs/news-topics
"""

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.files import batches_by_length, train_wordpiece
from models.datasets.news import (
    LABELS,
    Headline,
    TokenRows,
    read_huffpost,
    read_news,
    varied,
)
from models.pace import Pace, WeightAverage, decayed_groups
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.news_topics.teacher import Teacher
from models.starters.text_encoder import TextEncoder, TextEncoderShape

# Trained on the news labels alone, a linear classifier reaches 84.9 % on dev with the 4,000
# most frequent words, 87.6 % with 16,000 and 87.9 % with all 30,000: a wide vocabulary of narrow
# embeddings is worth more here than more layers.
VOCABULARY_SIZE = 30_000
EMBEDDING = 20
MAX_LENGTH = 64
DROPOUT = 0.05
BATCH_SIZE = 160
PEAK_RATE = 2.0e-3


class NewsTopics(nn.Module):
    """A text encoder and a linear layer: logits of the topics."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.encoder = TextEncoder(shape)
        self.topics = nn.Linear(shape.width, len(LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [B, topics] for int64 ids and a 0/1 mask, both [B, T]."""
        logits: Tensor = self.topics(self.encoder(input_ids, attention_mask))
        return logits


@torch.no_grad()
def accuracy(model: nn.Module, rows: TokenRows) -> float:
    """Return the share of rows whose likeliest topic has the largest logit."""
    order = np.argsort([len(row) for row in rows.rows], kind="stable")
    right = 0
    for start in range(0, len(order), 256):
        ids, mask, answers = rows.batch(order[start : start + 256])
        right += int((model(ids, mask).argmax(1) == answers.argmax(1)).sum())
    return right / len(order)


class NewsTraining:
    """The model, its running average, and one optimiser step."""

    def __init__(self, shape: TextEncoderShape) -> None:
        self.model = NewsTopics(shape)
        self.average = WeightAverage(self.model)
        self._optimiser = torch.optim.AdamW(
            decayed_groups(self.model, 0.02), lr=PEAK_RATE, betas=(0.9, 0.98)
        )

    def step(self, batch: tuple[Tensor, Tensor, Tensor], rate: float) -> float:
        """Learn from one batch at a learning rate, and return the loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        ids, mask, answers = batch
        with torch.autocast("cpu", torch.bfloat16):
            pooled = self.model.encoder(ids, mask)
        loss = functional.cross_entropy(self.model.topics(pooled.float()), answers)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        self.average.update(self.model)
        return float(loss.detach())


class Lessons:
    """Epochs of varied texts, each with the teacher's answers."""

    def __init__(self, texts: list[str], teacher: Teacher, tokenizer: Tokenizer) -> None:
        self._texts, self._teacher, self._tokenizer = texts, teacher, tokenizer
        self._generator = np.random.default_rng(0)

    def epoch(self) -> tuple[TokenRows, list[NDArray[np.int64]]]:
        """Return new variations of all texts, and the batches to take them in."""
        texts = varied(self._texts, self._generator)
        rows = TokenRows.of(texts, self._teacher.answers(texts), self._tokenizer)
        lengths = [len(row) for row in rows.rows]
        return rows, batches_by_length(lengths, BATCH_SIZE, self._generator)


def train(run: NewsTraining, lessons: Lessons, dev: TokenRows, minutes: float) -> Curves:
    """Train for the given time; dev is only watched."""
    pace, curves, step = Pace(minutes), Curves("news-topics"), 0
    with tqdm(total=100, unit="%", desc="news-topics") as bar:
        while pace.progress() < 1:
            losses: list[float] = []
            rows, batches = lessons.epoch()
            for chosen in batches:
                progress = pace.progress()
                losses.append(run.step(rows.batch(chosen), PEAK_RATE * pace.rate(progress)))
                step += 1
                bar.update(round(100 * progress, 1) - bar.n)
                if progress >= 1:
                    break
            scored = accuracy(run.average.module, dev)
            curves.record(step, loss={"train": float(np.mean(losses))}, accuracy={"dev": scored})
            bar.set_postfix(step=step, dev=f"{scored:.4f}", loss=f"{np.mean(losses):.4f}")
    return curves


def labelled_rows(headlines: list[Headline], tokenizer: Tokenizer) -> TokenRows:
    """Return the headlines with their labels as certain answers."""
    topics = [one.topic for one in headlines]
    answers = np.array([[topic == at for at in range(len(LABELS))] for topic in topics], np.float32)
    return TokenRows.of([one.text for one in headlines], answers, tokenizer)


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=20)
    news, dev, test = (read_news(request.data, split) for split in ("train", "dev", "test"))
    huffpost = read_huffpost(request.data, excluded=[one.text for one in (*dev, *test)])
    texts = [one.text for one in (*news, *huffpost)]
    teacher = Teacher([*news, *huffpost])
    tokenizer = train_wordpiece(texts, vocabulary_size=VOCABULARY_SIZE)
    tokenizer.enable_truncation(MAX_LENGTH)
    shape = TextEncoderShape(
        tokenizer.get_vocab_size(), MAX_LENGTH, EMBEDDING, layers=2, passes=2, dropout=DROPOUT
    )
    dev_rows = labelled_rows(dev, tokenizer)
    taught = teacher.answers([one.text for one in dev]).argmax(1) == dev_rows.answers.argmax(1)
    tqdm.write(f"dev accuracy of the teacher {taught.mean():.4f}")
    run = NewsTraining(shape)
    curves = train(run, Lessons(texts, teacher, tokenizer), dev_rows, request.minutes)

    request.out.mkdir(parents=True, exist_ok=True)
    tokenizer.no_truncation()
    tokenizer.save(str(request.out / "tokenizer.json"))
    state = run.average.module.state_dict()
    torch.save({"shape": shape.as_dict(), "model": state}, request.out / "model.pt")
    curves.draw(CURVES / "news_topics.png")
    tqdm.write(f"dev accuracy {curves.last('accuracy', 'dev'):.4f}, saved in {request.out}")


if __name__ == "__main__":
    main()
