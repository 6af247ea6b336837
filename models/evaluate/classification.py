"""`news-topics` and `digits` on their test splits."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pixels

from models.datasets.files import data_folder, read_jsonl
from models.evaluate.measures import Measure
from models.evaluate.scores import ClassificationScores, classification_scores
from models.evaluate.served import Served
from service.tasks import Classification, ClassifyItem, Content, Image, Text


async def _scores(
    served: Served, contents: Sequence[Content], truth: Sequence[str], title: str
) -> ClassificationScores:
    answers = await served.answers([ClassifyItem(content) for content in contents], title)
    best = [answer.labels[0].name for answer in answers if isinstance(answer, Classification)]
    return classification_scores(truth, best)


async def measure_news_topics(served: Served, data: Path) -> list[Measure]:
    """Classify every test headline."""
    rows = read_jsonl(data_folder(data, "news_aggregator") / "test.jsonl.gz")
    texts = [Text(row["text"]) for row in rows]
    scores = await _scores(served, texts, [row["label"] for row in rows], "headlines")
    return [
        Measure("accuracy", scores.accuracy),
        Measure("macro recall", scores.macro_recall),
        Measure("macro F1", scores.macro_f1),
    ]


async def measure_digits(served: Served, data: Path) -> list[Measure]:
    """Classify every test picture as it is, and inverted as on paper."""
    with np.load(data_folder(data, "mnist") / "mnist_10k_train_10k_test.npz") as arrays:
        pictures, truth = arrays["x_test"], [str(digit) for digit in arrays["y_test"]]
    as_is = await _scores(served, _as_files(pictures), truth, "light on dark")
    inverted = await _scores(served, _as_files(255 - pictures), truth, "dark on light")
    return [
        Measure("accuracy", as_is.accuracy),
        Measure("macro recall", as_is.macro_recall),
        Measure("macro F1", as_is.macro_f1),
        Measure("accuracy, pictures inverted (dark on white)", inverted.accuracy),
    ]


def _as_files(pictures: NDArray[np.uint8]) -> list[Image]:
    files = []
    for picture in pictures:
        file = BytesIO()
        Pixels.fromarray(picture).save(file, "PNG", compress_level=1)
        files.append(Image(file.getvalue()))
    return files
