"""`emoji`: how often the drawing that a name or a phrase means is among the nearest ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pixels

from models.datasets.emoji import (
    HELD_OUT_STYLE,
    LANGUAGES,
    read_concepts,
    read_phrases,
    read_style,
)
from models.evaluate.measures import Measure
from models.evaluate.scores import recall_at
from models.evaluate.served import Served
from service.tasks import Content, Embedding, EmbedItem, Image, Text


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A drawing that the page searches, and its name by language."""

    file: Image
    names: Mapping[str, str]


async def measure_emoji(served: Served, data: Path) -> list[Measure]:
    """Search all emoji in a style never trained on, and the pictures of the page."""
    return [*await _search_new_style(served, data), *await _search_page(served)]


async def _search_new_style(served: Served, data: Path) -> list[Measure]:
    """Look for every emoji that the style draws among all of these, by its name."""
    drawings = read_style(data, HELD_OUT_STYLE)
    drawn = [one for one in read_concepts(data) if one.code in drawings]
    title = f"new style ({len(drawn)} emoji)"
    gallery = await _vectors(served, [as_file(drawings[one.code]) for one in drawn], title)
    measures = []
    for language in LANGUAGES:
        names = [Text(one.names[language]) for one in drawn]
        queries = await _vectors(served, names, f"{title}, {language}")
        measures += [
            Measure(
                f"{title}, {language}: recall@{depth}",
                recall_at(queries, gallery, range(len(drawn)), depth),
            )
            for depth in (1, 10)
        ]
    return measures


async def _search_page(served: Served) -> list[Measure]:
    """Look for the pictures of the page, by their names and by plain phrases."""
    pictures = read_page_pictures()
    gallery = await _vectors(served, [one.file for one in pictures], "page")
    measures = []
    english = [one.names["en"] for one in pictures]
    for language in LANGUAGES:
        searches = {
            "name of a picture": {one.names[language]: [one.names["en"]] for one in pictures},
            "plain phrase": read_phrases()[language],
        }
        for title, wanted in searches.items():
            queries = await _vectors(served, [Text(text) for text in wanted], title)
            best = (queries @ gallery.T).argmax(1)
            right = [english[at] in good for at, good in zip(best, wanted.values(), strict=True)]
            name = f"page, {title} ({len(right)}), {language}: right picture first"
            measures.append(Measure(name, float(np.mean(right))))
    return measures


def read_page_pictures() -> list[PagePicture]:
    """Return the drawings among which the page finds the nearest."""
    folder = files("service.page") / "samples" / "emoji"
    rows = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    return [PagePicture(Image((folder / row["file"]).read_bytes()), row) for row in rows]


async def _vectors(served: Served, contents: Sequence[Content], title: str) -> NDArray[np.float32]:
    answers = await served.answers([EmbedItem(content) for content in contents], title)
    return np.stack([answer.vector for answer in answers if isinstance(answer, Embedding)])


def as_file(drawing: Pixels.Image) -> Image:
    """Return a drawing as a PNG file."""
    file = BytesIO()
    drawing.save(file, "PNG")
    return Image(file.getvalue())
