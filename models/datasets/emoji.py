"""The emoji data set: concepts with captions in two languages, and their drawings."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.files import data_folder, read_images, read_jsonl

TRAINED_STYLES = ("twemoji", "noto", "fluent3d", "emojitwo")
HELD_OUT_STYLE = "openmoji"  # never trained on: it measures how the model meets a new style
UNSEEN_STYLE = "noto"  # the style in which emoji outside the training split are searched
IMAGE_SIZE = 64
LANGUAGES = ("en", "zh")

# A mirrored image must still be what its captions say.
_SIDED = (
    *("left", "right", "flag", "arrow", "button", "keycap", "clock", "o’clock", "thirty"),
    *("moon", "mark", "letter", "symbol", "zodiac", "east", "west", "sign", "hand", "music"),
    *("chart", "book", "calendar", "input", "number", "abacus", "money", "question", "japanese"),
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One emoji: names and keywords by language, the styles that draw it, and its split."""

    code: str
    names: dict[str, str]
    keywords: dict[str, list[str]]
    styles: tuple[str, ...]
    split: str

    @property
    def may_be_mirrored(self) -> bool:
        """Whether its mirror image would still be called the same."""
        words = " ".join([self.names["en"], *self.keywords["en"]]).lower()
        return not any(side in words for side in _SIDED)

    def caption(self, language: str, generator: np.random.Generator) -> str:
        """Return the name, some keywords in random order, or both."""
        name, keywords = self.names[language], self.keywords[language]
        drawn = generator.random()
        if drawn < 0.4 or not keywords:  # the name is what users type most
            return name
        count = int(generator.integers(1, min(4, len(keywords)) + 1))
        chosen = [keywords[at] for at in generator.permutation(len(keywords))[:count]]
        if drawn < 0.65:
            chosen.insert(int(generator.integers(0, len(chosen) + 1)), name)
        return (", " if language == "en" else "，").join(chosen)


def read_concepts(root: Path) -> list[Concept]:
    """Read every concept of DIR/emoji_text_image, in file order."""
    rows = read_jsonl(data_folder(root, "emoji_text_image") / "emoji_annotations.jsonl.gz")
    return [
        Concept(
            code=row["cp"],
            names={language: row[language] for language in LANGUAGES},
            keywords={language: row[f"{language}_keywords"] for language in LANGUAGES},
            styles=tuple(row["sets"]),
            split=row["split"],
        )
        for row in rows
    ]


def read_paraphrases() -> Mapping[str, Sequence[str]]:
    """Return phrases to train on, in either language, by the English name of an emoji."""
    return _read_toml("emoji_paraphrases.toml")


def read_phrases() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return phrases to measure with, by language: the English names of the right emoji."""
    return _read_toml("emoji_phrases.toml")


def is_chinese(text: str) -> bool:
    """Return whether there is a Chinese character in the text."""
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def _read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def read_style(root: Path, style: str) -> dict[str, Image.Image]:
    """Read the drawings of one style by code, RGBA."""
    archive = data_folder(root, "emoji_text_image") / f"{style}.tar"
    return {code: image.convert("RGBA") for code, image in read_images(archive)}


def premultiplied(image: Image.Image) -> NDArray[np.uint8]:
    """Return [4, 64, 64] with colours multiplied by alpha, ready to be laid on a background."""
    rgba = np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE)), dtype=np.uint16)
    rgba[:, :, :3] = (rgba[:, :, :3] * rgba[:, :, 3:] + 127) // 255
    return rgba.transpose(2, 0, 1).astype(np.uint8)


def all_captions(concepts: Sequence[Concept]) -> list[str]:
    """Return every name and keyword of the concepts, for training a tokenizer."""
    return [
        text
        for concept in concepts
        for language in LANGUAGES
        for text in (concept.names[language], *concept.keywords[language])
    ]
