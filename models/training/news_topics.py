"""Trains `news-topics`: the topic of an English news headline, by a small Transformer encoder.

Data: the UCI News Aggregator (Gasparetti, 2016), https://archive.ics.uci.edu/dataset/359 ,
CC BY 4.0; read from DIR/news_aggregator. About 15 minutes on one CPU core:

    python -m models.training.news_topics --data DIR --out runs/news-topics
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.training.curves import CURVES, Curves
from models.training.data import (
    batches_by_length,
    data_folder,
    pad_rows,
    read_jsonl,
    train_wordpiece,
)
from models.training.pace import Pace, WeightAverage, decayed_groups
from models.training.text_encoder import TextEncoder, TextEncoderShape

LABELS = ("business", "entertainment", "health", "science_technology")
VOCABULARY_SIZE = 4_096
MAX_LENGTH = 64
PUBLISHERS = 400  # the most frequent ones; the rest count as one
PUBLISHER_WEIGHT = 0.2
MASKED_SHARE = 0.12
LABEL_SMOOTHING = 0.1
BATCH_SIZE = 192
PEAK_RATE = 2.0e-3


class NewsTopics(nn.Module):
    """A text encoder and a linear layer: logits of the topics."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.encoder = TextEncoder(shape)
        self.topics = nn.Linear(shape.width, len(LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [B, 4] for int64 ids and a 0/1 mask, both [B, T]."""
        logits: Tensor = self.topics(self.encoder(input_ids, attention_mask))
        return logits


@dataclass(frozen=True, slots=True)
class Headlines:
    """Tokenised headlines of one split, with topic and publisher numbers."""

    rows: list[list[int]]
    topics: np.ndarray
    publishers: np.ndarray

    def batch(self, chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return ids, mask, topics and publishers of the chosen rows, padded with 0."""
        ids, mask = pad_rows([self.rows[row] for row in chosen], pad_id=0)
        arrays = (ids, mask, self.topics[chosen], self.publishers[chosen])
        ids_, mask_, topics, publishers = (torch.from_numpy(array) for array in arrays)
        return ids_, mask_, topics, publishers


def tokenise(
    rows: list[dict[str, Any]], tokenizer: Tokenizer, publishers: dict[str, int]
) -> Headlines:
    """Turn rows of the data set into numbers; unknown publishers share the last number."""
    encodings = tokenizer.encode_batch([row["text"] for row in rows])
    return Headlines(
        [encoding.ids[:MAX_LENGTH] for encoding in encodings],
        np.array([LABELS.index(row["label"]) for row in rows], dtype=np.int64),
        np.array([publishers.get(row["publisher"], PUBLISHERS) for row in rows], dtype=np.int64),
    )


def frequent_publishers(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Number the most frequent publishers, from 0."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["publisher"]] = counts.get(row["publisher"], 0) + 1
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: number for number, name in enumerate(ordered[:PUBLISHERS])}


def mask_tokens(ids: Tensor, mask_id: int) -> Tensor:
    """Hide a share of the word tokens (ids above the special ones), so that no word is relied on."""
    hidden = (torch.rand(ids.shape) < MASKED_SHARE) & (ids > mask_id)
    return torch.where(hidden, mask_id, ids)


@torch.no_grad()
def accuracy(model: nn.Module, headlines: Headlines) -> float:
    """Return the share of headlines whose topic has the largest logit."""
    order = np.argsort([len(row) for row in headlines.rows], kind="stable")
    right = 0
    for start in range(0, len(order), 256):
        ids, mask, topics, _ = headlines.batch(order[start : start + 256])
        right += int((model(ids, mask).argmax(1) == topics).sum())
    return right / len(order)


def train(
    training: Headlines, dev: Headlines, shape: TextEncoderShape, mask_id: int, minutes: float
) -> tuple[NewsTopics, Curves]:
    """Train for the given time and return the averaged model that was best on dev."""
    model = NewsTopics(shape)
    publisher_head = nn.Linear(shape.width, PUBLISHERS + 1)
    average = WeightAverage(model)
    groups = decayed_groups(model, 0.05) + decayed_groups(publisher_head, 0.05)
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    pace, curves, step = Pace(minutes), Curves("news-topics"), 0
    generator = np.random.default_rng(0)
    lengths = [len(row) for row in training.rows]
    best, best_state = 0.0, model.state_dict()
    with tqdm(total=100, unit="%", desc="news-topics") as bar:
        while pace.progress() < 1:
            losses: list[float] = []
            for chosen in batches_by_length(lengths, BATCH_SIZE, generator):
                progress = pace.progress()
                for group in optimiser.param_groups:
                    group["lr"] = PEAK_RATE * pace.rate(progress)
                losses.append(
                    _step(model, publisher_head, training.batch(chosen), mask_id, optimiser)
                )
                average.update(model)
                step += 1
                bar.update(round(100 * progress, 1) - bar.n)
                if progress >= 1:
                    break
            scored = accuracy(average.module, dev)
            curves.record(
                step, loss={"train": float(np.mean(losses))}, accuracy={"dev (averaged)": scored}
            )
            bar.set_postfix(step=step, dev=f"{scored:.4f}", loss=f"{np.mean(losses):.3f}")
            if scored >= best:
                best = scored
                best_state = {k: v.clone() for k, v in average.module.state_dict().items()}
    model.load_state_dict(best_state)
    return model.eval(), curves


def _step(
    model: NewsTopics,
    publisher_head: nn.Module,
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
    mask_id: int,
    optimiser: torch.optim.Optimizer,
) -> float:
    """Take one optimiser step and return the topic loss."""
    ids, mask, topics, publishers = batch
    with torch.autocast("cpu", torch.bfloat16):
        pooled = model.encoder(mask_tokens(ids, mask_id), mask)
    pooled = functional.dropout(pooled.float(), 0.2)
    loss = functional.cross_entropy(model.topics(pooled), topics, label_smoothing=LABEL_SMOOTHING)
    by_publisher = functional.cross_entropy(publisher_head(pooled), publishers)
    optimiser.zero_grad(set_to_none=True)
    (loss + PUBLISHER_WEIGHT * by_publisher).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return float(loss)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--minutes", type=float, default=15.0, help="training time")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    folder = data_folder(arguments.data, "news_aggregator")
    rows, dev_rows = (read_jsonl(folder / f"{split}.jsonl.gz") for split in ("train", "dev"))
    tokenizer = train_wordpiece((row["text"] for row in rows), vocabulary_size=VOCABULARY_SIZE)
    publishers = frequent_publishers(rows)
    training, dev = (tokenise(part, tokenizer, publishers) for part in (rows, dev_rows))
    shape = TextEncoderShape(tokenizer.get_vocab_size(), max_length=MAX_LENGTH)
    mask_id = tokenizer.token_to_id("[MASK]")
    model, curves = train(training, dev, shape, mask_id, arguments.minutes)

    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    torch.save({"shape": shape.as_dict(), "model": model.state_dict()}, arguments.out / "model.pt")
    curves.draw(CURVES / "news_topics.png")
    tqdm.write(f"dev accuracy {accuracy(model, dev):.4f}, saved in {arguments.out}")


if __name__ == "__main__":
    main()
