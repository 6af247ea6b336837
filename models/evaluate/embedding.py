"""`emoji`: how often the drawing that a name means is among the nearest ones."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pixels

from models.datasets.emoji import (
    HELD_OUT_STYLE,
    LANGUAGES,
    UNSEEN_STYLE,
    Concept,
    read_concepts,
    read_style,
)
from models.evaluate.measures import Measure
from models.evaluate.scores import recall_at
from models.evaluate.served import Served
from service.tasks import Content, Embedding, EmbedItem, Image, Text


async def measure_emoji(served: Served, data: Path) -> list[Measure]:
    """Search known emoji in a style never trained on, and emoji never trained on."""
    concepts = read_concepts(data)
    return [
        *await _search(served, data, concepts, "known emoji, new style", "train", HELD_OUT_STYLE),
        *await _search(served, data, concepts, "unseen emoji", "test", UNSEEN_STYLE),
    ]


async def _search(
    served: Served, data: Path, concepts: Sequence[Concept], title: str, split: str, style: str
) -> list[Measure]:
    """Look for every emoji of a split that the style draws among all of these, by its name."""
    drawn = [one for one in concepts if one.split == split and style in one.styles]
    drawings = read_style(data, style)
    gallery = await _vectors(served, [as_file(drawings[one.code]) for one in drawn], title)
    measures = []
    for language in LANGUAGES:
        names = [Text(one.names[language]) for one in drawn]
        queries = await _vectors(served, names, f"{title}, {language}")
        measures += [
            Measure(
                f"{title} ({len(drawn)}), {language}: recall@{depth}",
                recall_at(queries, gallery, range(len(drawn)), depth),
            )
            for depth in (1, 10)
        ]
    return measures


async def _vectors(served: Served, contents: Sequence[Content], title: str) -> NDArray[np.float32]:
    answers = await served.answers([EmbedItem(content) for content in contents], title)
    return np.stack([answer.vector for answer in answers if isinstance(answer, Embedding)])


def as_file(drawing: Pixels.Image) -> Image:
    """Return a drawing as a PNG file."""
    file = BytesIO()
    drawing.save(file, "PNG")
    return Image(file.getvalue())
