"""Distils `news-topics`: a narrower, shallower student of the starter itself.

The teacher is the served starter, its weights read out of its graph and proven against it; the
student learns its logits and states on the training headlines and variations of them. Labels are
not used. About 8 minutes on one CPU core:

    python -m models.starters.news_topics.distil --data DIR --out runs/news-topics-student

`models.starters.news_topics.export` makes a version of what is written.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from models.compress.learning import Course, Lesson
from models.compress.teaching import Balance, Reading, distil
from models.datasets.files import PAD_ID, batches_by_length, pad_rows
from models.datasets.news import LABELS, read_news, varied
from models.pace import mixed_precision
from models.starters.news_topics.model import NewsTopics, served_model
from models.starters.text_encoder import TextEncoderShape

STARTER = Path(__file__).parents[2] / "repository" / "news-topics" / "1"
_HEAD_WIDTH = 32
_BATCH = 160
_RATE = 3e-3


def read(model: NewsTopics, lesson: Lesson) -> Reading:
    """Return logits and states; layers gone through twice give two states."""
    states: list[Tensor] = []

    def keep(_: object, __: object, output: Tensor) -> None:
        states.append(output.float())

    encoder = model.encoder
    handles = [part.register_forward_hook(keep) for part in (encoder.dropout, *encoder.layers)]
    try:
        mask = lesson.inputs["attention_mask"]
        with mixed_precision():
            pooled = encoder(lesson.inputs["input_ids"], mask)
        return Reading(model.topics(pooled.float()), states, mask)
    finally:
        for handle in handles:
            handle.remove()


def student_of(teacher: NewsTopics, width: int, layers: int) -> NewsTopics:
    """Return a student with the teacher's embeddings and everything else still to be learnt."""
    own = teacher.encoder.shape
    shape = TextEncoderShape(
        own.vocabulary, own.max_length, own.embedding, width, layers, max(1, width // _HEAD_WIDTH)
    )
    student = NewsTopics(shape)
    student.encoder.tokens.load_state_dict(teacher.encoder.tokens.state_dict())
    return student


def lessons(
    texts: list[str], tokenizer: Tokenizer, random: np.random.Generator
) -> Iterator[Lesson]:
    """Yield one epoch of variations, in batches of similar length."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(varied(texts, random))]
    for chosen in batches_by_length([len(row) for row in rows], _BATCH, random):
        ids, mask = pad_rows([rows[at] for at in chosen], PAD_ID)
        yield Lesson({"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)})


@torch.no_grad()
def accuracy(model: NewsTopics, data: Path, tokenizer: Tokenizer, split: str = "dev") -> float:
    """Return the share of a split's headlines that get their topic."""
    headlines = read_news(data, split)
    right = 0
    for start in range(0, len(headlines), 256):
        some = headlines[start : start + 256]
        ids, mask = pad_rows([tokenizer.encode(one.text).ids for one in some], PAD_ID)
        best = model(torch.from_numpy(ids), torch.from_numpy(mask)).argmax(1).tolist()
        right += sum(at == one.topic for at, one in zip(best, some, strict=True))
    return right / len(headlines)


def main() -> None:
    """Distil from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--teacher", type=Path, default=STARTER, help="folder of a version")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=8.0)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)

    teacher = served_model(asked.teacher)
    tokenizer = Tokenizer.from_file(str(asked.teacher / "tokenizer.json"))
    tokenizer.enable_truncation(teacher.encoder.shape.max_length)
    student = student_of(teacher, asked.width, asked.layers)
    texts, random = [one.text for one in read_news(asked.data, "train")], np.random.default_rng(0)
    distil(
        student,
        (lambda lesson: read(student, lesson), lambda lesson: read(teacher, lesson)),
        lambda: lessons(texts, tokenizer, random),
        Course(asked.minutes, _RATE),
        Balance(),
    )
    for name, model in (("teacher", teacher), ("student", student)):
        count = sum(parameter.numel() for parameter in model.parameters())
        scored = accuracy(model, asked.data, tokenizer)
        tqdm.write(f"{name}: {count:,} weights, dev accuracy {scored:.4f} of {len(LABELS)} topics")
    asked.out.mkdir(parents=True, exist_ok=True)
    tokenizer.no_truncation()
    tokenizer.save(str(asked.out / "tokenizer.json"))
    shape = student.encoder.shape.as_dict()
    torch.save({"shape": shape, "model": student.state_dict()}, asked.out / "model.pt")


if __name__ == "__main__":
    main()
