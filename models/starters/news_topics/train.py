"""Trains `news-topics`: the topic of an English news headline, by a small Transformer encoder.

A linear model over n-grams is trained on the labels first (`teacher.py`); the Transformer
then learns its answers to all headlines and to endless variations of them.

Data: the UCI News Aggregator (Gasparetti, 2016), https://archive.ics.uci.edu/dataset/359 ,
CC BY 4.0, read from DIR/news_aggregator; and the News Category Dataset (Misra, 2022),
https://www.kaggle.com/datasets/rmisra/news-category-dataset , CC BY 4.0, read from
DIR/huffpost_headlines. About 25 minutes on one CPU core:

    python -m models.starters.news_topics.train --data DIR --out runs/news-topics

Texts that are no headlines are trained to the same score for all topics: those of DIR/clinc150
(CC BY 3.0), DIR/massive_en_zh and DIR/banking77 (CC BY 4.0) and DIR/tatoeba_zh_en (CC BY 2.0 FR),
their common words, and gibberish. `--start VERSION` starts from the weights of a version.
"""

from collections.abc import Sequence
from pathlib import Path

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
from models.datasets.small_talk import (
    GREETINGS,
    common_words,
    few_words,
    gibberish,
    read_small_talk,
    with_other_ends,
)
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.calibration import best_temperature
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.news_topics.model import PASSES, NewsTopics, served_model
from models.starters.news_topics.teacher import Teacher
from models.starters.text_encoder import TextEncoderShape

# Trained on the news labels alone, a linear classifier reaches 84.9 % on dev with the 4,000
# most frequent words, 87.6 % with 16,000 and 87.9 % with all 30,000: a wide vocabulary of narrow
# embeddings is worth more here than more layers.
VOCABULARY_SIZE = 30_000
EMBEDDING = 20
MAX_LENGTH = 64
DROPOUT = 0.05
BATCH_SIZE = 160
PEAK_RATE = 2.0e-3
STARTED_RATE = 1.0e-3  # from the weights of a version
EPOCH = 0.2  # of all texts, so that the curve has points
GREETED = 8  # times that an epoch has each greeting
FEW_WORDS, GIBBERISH = 3000, 2000  # texts of an epoch


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

    def __init__(self, model: NewsTopics) -> None:
        self.model = model.train()
        self.average = WeightAverage(self.model)
        self._optimiser = torch.optim.AdamW(
            decayed_groups(self.model, 0.02), lr=PEAK_RATE, betas=(0.9, 0.98)
        )

    def step(self, batch: tuple[Tensor, Tensor, Tensor], rate: float) -> float:
        """Learn from one batch at a learning rate, and return the loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        ids, mask, answers = batch
        with mixed_precision():
            pooled = self.model.encoder(ids, mask)
        loss = functional.cross_entropy(self.model.topics(pooled.float()), answers)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        self.average.update(self.model)
        return float(loss.detach())


class Lessons:
    """Epochs of varied headlines with the teacher's answers, and of texts that have no topic."""

    def __init__(
        self,
        headlines: Sequence[str],
        small_talk: Sequence[str],
        teacher: Teacher,
        tokenizer: Tokenizer,
    ) -> None:
        self._headlines, self._small_talk = headlines, small_talk
        self._words = common_words(small_talk)
        self._teacher, self._tokenizer = teacher, tokenizer
        self._generator = np.random.default_rng(0)

    def epoch(self) -> tuple[TokenRows, list[NDArray[np.int64]]]:
        """Return a share of all texts, in new variations, and the batches to take them in."""
        headlines = varied(self._chosen(self._headlines), self._generator)
        talk = self._talk()
        none = np.full((len(talk), len(LABELS)), 1 / len(LABELS), np.float32)
        answers = np.concatenate([self._teacher.answers(headlines), none])
        rows = TokenRows.of([*headlines, *talk], answers, self._tokenizer)
        lengths = [len(row) for row in rows.rows]
        return rows, batches_by_length(lengths, BATCH_SIZE, self._generator)

    def _talk(self) -> list[str]:
        sentences = [*self._chosen(self._small_talk), *GREETINGS * GREETED]
        sentences = with_other_ends(varied(sentences, self._generator), self._generator)
        words = few_words(self._words, FEW_WORDS, self._generator)
        return [*sentences, *words, *gibberish(GIBBERISH, self._generator)]

    def _chosen(self, texts: Sequence[str]) -> list[str]:
        count = int(EPOCH * len(texts))
        return [texts[at] for at in self._generator.choice(len(texts), count, replace=False)]


def train(
    run: NewsTraining, lessons: Lessons, dev: TokenRows, minutes: float, peak: float
) -> Curves:
    """Train for the given time at learning rates up to a peak; dev is only watched."""
    pace, curves, step = Pace(minutes), Curves("news-topics"), 0
    with tqdm(total=100, unit="%", desc="news-topics") as bar:
        while pace.progress() < 1:
            losses: list[float] = []
            rows, batches = lessons.epoch()
            for chosen in batches:
                progress = pace.progress()
                losses.append(run.step(rows.batch(chosen), peak * pace.rate(progress)))
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


@torch.no_grad()
def calibrate(model: NewsTopics, dev: TokenRows) -> float:
    """Divide the logits by the temperature of least log loss on dev; return it."""
    parts = [dev.batch(rows) for rows in np.array_split(np.arange(len(dev.rows)), 32)]
    logits = torch.cat([model(ids, mask) for ids, mask, _ in parts])
    answers = torch.cat([answers for _, _, answers in parts])
    temperature = best_temperature(logits, answers.argmax(1))
    model.topics.weight /= temperature
    model.topics.bias /= temperature
    return temperature


def first_model(texts: Sequence[str], start: Path | None) -> tuple[NewsTopics, Tokenizer]:
    """Return the model to train and its tokenizer: a new one, or that of a version."""
    if start is not None:
        model = served_model(start, dropout=DROPOUT)
        return model, Tokenizer.from_file(str(start / "tokenizer.json"))
    tokenizer = train_wordpiece(texts, vocabulary_size=VOCABULARY_SIZE)
    shape = TextEncoderShape(
        tokenizer.get_vocab_size(),
        MAX_LENGTH,
        EMBEDDING,
        layers=2,
        passes=PASSES,
        dropout=DROPOUT,
    )
    return NewsTopics(shape), tokenizer


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=25, startable=True)
    news, dev, test = (read_news(request.data, split) for split in ("train", "dev", "test"))
    huffpost = read_huffpost(request.data, excluded=[one.text for one in (*dev, *test)])
    headlines = [one.text for one in (*news, *huffpost)]
    small_talk = read_small_talk(request.data)
    teacher = Teacher([*news, *huffpost])
    model, tokenizer = first_model([*headlines, *small_talk], request.start)
    tokenizer.enable_truncation(MAX_LENGTH)
    dev_rows = labelled_rows(dev, tokenizer)
    taught = teacher.answers([one.text for one in dev]).argmax(1) == dev_rows.answers.argmax(1)
    tqdm.write(f"dev accuracy of the teacher {taught.mean():.4f}")
    run = NewsTraining(model)
    lessons = Lessons(headlines, small_talk, teacher, tokenizer)
    peak = PEAK_RATE if request.start is None else STARTED_RATE
    curves = train(run, lessons, dev_rows, request.minutes, peak)
    temperature = calibrate(run.average.module, dev_rows)

    request.out.mkdir(parents=True, exist_ok=True)
    tokenizer.no_truncation()
    tokenizer.save(str(request.out / "tokenizer.json"))
    shape, state = model.encoder.shape.as_dict(), run.average.module.state_dict()
    torch.save({"shape": shape, "model": state}, request.out / "model.pt")
    curves.draw(CURVES / "news_topics.png")
    reached = curves.last("accuracy", "dev")
    tqdm.write(f"dev accuracy {reached:.4f}, temperature {temperature:.2f}: {request.out}")


if __name__ == "__main__":
    main()
