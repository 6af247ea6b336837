"""`news-topics` and `digits` on their test splits."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pixels

from models.datasets.empty_pages import empty_pages
from models.datasets.files import data_folder, read_jsonl
from models.datasets.small_talk import CLINC, HELD_OUT, MASSIVE
from models.evaluate.measures import Measure
from models.evaluate.scores import classification_scores, expected_calibration_error
from models.evaluate.served import Served
from service.tasks import Classification, ClassifyItem, Content, Image, Label, Text

NOTHING = 0.4
"""A best score below it means none of the labels."""

EMPTY_PAGES = 1000


async def _best(served: Served, contents: Sequence[Content], title: str) -> list[Label]:
    answers = await served.answers([ClassifyItem(content) for content in contents], title)
    return [answer.labels[0] for answer in answers if isinstance(answer, Classification)]


def _measures(truth: Sequence[str], best: Sequence[Label]) -> list[Measure]:
    scores = classification_scores(truth, [label.name for label in best])
    right = [label.name == true for label, true in zip(best, truth, strict=True)]
    error = expected_calibration_error([label.score for label in best], right)
    return [
        Measure("accuracy", scores.accuracy),
        Measure("macro recall", scores.macro_recall),
        Measure("macro F1", scores.macro_f1),
        Measure("expected calibration error", error),
    ]


def _nothing(best: Sequence[Label], title: str) -> list[Measure]:
    """Return how often there is no label for what has none."""
    scores = [label.score for label in best]
    return [
        Measure(
            f"{title} ({len(scores)}): best score under {NOTHING}",
            float(np.mean(np.less(scores, NOTHING))),
        ),
        Measure(f"{title}: mean best score", float(np.mean(scores))),
    ]


async def measure_news_topics(served: Served, data: Path) -> list[Measure]:
    """Classify every test headline, and texts that are none."""
    rows = read_jsonl(data_folder(data, "news_aggregator") / "test.jsonl.gz")
    best = await _best(served, [Text(row["text"]) for row in rows], "headlines")
    talk = read_jsonl(data_folder(data, CLINC) / "test.jsonl.gz")
    requests = read_jsonl(data_folder(data, MASSIVE) / "test.jsonl.gz")
    others = {
        "small talk": [row["text"] for row in talk if row["domain"] == "small_talk"],
        "requests to an assistant": [row["en"] for row in requests],
        **HELD_OUT,
    }
    measures = _measures([row["label"] for row in rows], best)
    for title, texts in others.items():
        measures += _nothing(await _best(served, [Text(text) for text in texts], title), title)
    return measures


async def measure_digits(served: Served, data: Path) -> list[Measure]:
    """Classify every test picture as it is, and inverted as on paper; and empty pages."""
    with np.load(data_folder(data, "mnist") / "mnist_10k_train_10k_test.npz") as arrays:
        pictures, truth = arrays["x_test"], [str(digit) for digit in arrays["y_test"]]
    as_is = await _best(served, _as_files(pictures), "light on dark")
    inverted = await _best(served, _as_files(255 - pictures), "dark on light")
    small = await _best(served, _as_files(_smaller(pictures)), "smaller, moved")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        pages = (empty_pages(EMPTY_PAGES)[:, 0] * 255).byte().numpy()
    return [
        *_measures(truth, as_is),
        _accuracy("inverted (dark on white)", truth, inverted),
        _accuracy("0.6 of the size, in a corner", truth, small),
        *_nothing(await _best(served, _as_files(pages), "empty pages"), "empty pages"),
    ]


def _accuracy(title: str, truth: Sequence[str], best: Sequence[Label]) -> Measure:
    right = [label.name == true for label, true in zip(best, truth, strict=True)]
    return Measure(f"accuracy, pictures {title}", float(np.mean(right)))


def _smaller(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pictures at 0.6 of their size, in each of the corners in turn."""
    changed = np.zeros_like(pictures)
    side = round(0.6 * pictures.shape[1])
    room = pictures.shape[1] - side
    for at, picture in enumerate(pictures):
        small = np.asarray(Pixels.fromarray(picture).resize((side, side)))
        top, left = (
            room * (at % 2),
            room * (at // 2 % 2),
        )
        changed[at, top : top + side, left : left + side] = small
    return changed


def _as_files(pictures: NDArray[np.uint8]) -> list[Image]:
    files = []
    for picture in pictures:
        file = BytesIO()
        Pixels.fromarray(picture).save(file, "PNG", compress_level=1)
        files.append(Image(file.getvalue()))
    return files
