"""`emoji`: how often the right one of given labels is the best for a drawing (zero-shot)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.datasets.emoji import HELD_OUT_STYLE, LANGUAGES, Concept, read_concepts, read_style
from models.evaluate.embedding import as_file
from models.evaluate.measures import Measure
from models.evaluate.served import Served
from service.requests.zero_shot import GivenLabels
from service.tasks import Classification, ClassifyItem, Image

_LABELS = 50
"""That each drawing is classified by."""


async def measure_emoji_labels(served: Served, data: Path) -> list[Measure]:
    """Classify the drawings of the test split by the names of 50 of its emoji.

    The drawings are in a style that was not trained on.

    Raises:
        EvaluationError: a drawing or a label cannot be answered.
    """
    drawings = read_style(data, HELD_OUT_STYLE)
    drawn = [one for one in read_concepts(data) if one.split == "test" and one.code in drawings]
    files = {one.code: as_file(drawings[one.code]) for one in drawn}
    return [
        Measure(
            f"zero-shot, test split ({len(drawn)} drawings, {_LABELS} labels), {language}: "
            "accuracy",
            await _accuracy(served, drawn, files, language),
        )
        for language in LANGUAGES
    ]


async def _accuracy(
    served: Served, drawn: Sequence[Concept], files: dict[str, Image], language: str
) -> float:
    order = np.random.default_rng(0).permutation(len(drawn)).tolist()
    right = 0
    for start in range(0, len(order), _LABELS):
        asked = [drawn[place] for place in order[start : start + _LABELS]]
        # The last ones are asked with names of the first ones among their labels.
        names = dict.fromkeys(one.names[language] for one in asked)
        for place in order:
            if len(names) < _LABELS:
                names.setdefault(drawn[place].names[language])
        best = await _best(served, [files[one.code] for one in asked], tuple(names))
        right += sum(name == one.names[language] for name, one in zip(best, asked, strict=True))
    return right / len(drawn)


async def _best(served: Served, images: Sequence[Image], labels: tuple[str, ...]) -> list[str]:
    """Return the best label of each image. Raises EvaluationError."""
    choosing = await served.by_labels(GivenLabels(labels), "image")
    answers = await choosing.answers([ClassifyItem(image, 1) for image in images], "drawings")
    return [one.labels[0].name for one in answers if isinstance(one, Classification)]
