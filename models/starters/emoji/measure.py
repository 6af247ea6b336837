"""How `emoji` does on emoji and drawing styles that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.datasets.emoji import HELD_OUT_STYLE, LANGUAGES, UNSEEN_STYLE, Concept
from models.starters.calibration import best_temperature
from models.starters.emoji.images import on_white
from models.starters.emoji.lessons import Words
from models.starters.emoji.pictures import load_drawings
from models.starters.emoji.towers import ImageTower, TextTower

UNSCALED = 20.0  # what cosines are multiplied with before the temperature is fitted


class Emoji(nn.Module):
    """Both towers."""

    def __init__(self, text: TextTower, image: ImageTower) -> None:
        super().__init__()
        self.text, self.image = text, image


@dataclass(frozen=True, slots=True)
class Trial:
    """A model that has not seen the emoji held out, and what to measure it with."""

    model: Emoji
    words: Words
    data: Path
    concepts: Sequence[Concept]

    def drawn(self, split: str, style: str) -> list[Concept]:
        """Return the concepts of a split that a style draws."""
        return [one for one in self.concepts if one.split == split and style in one.styles]

    @torch.no_grad()
    def similarities(self, drawn: Sequence[Concept], style: str, language: str) -> Tensor:
        """Return cosines [names, drawings] of concepts."""
        pixels = load_drawings(self.data, drawn, [style]).pixels
        images = [self.model.image(on_white(part)) for part in pixels.split(128)]
        names = [one.names[language] for one in drawn]
        batches = (names[at : at + 128] for at in range(0, len(names), 128))
        texts = [self.model.text(*self.words(some)) for some in batches]
        return functional.normalize(torch.cat(texts)) @ functional.normalize(torch.cat(images)).T

    def recalls(self) -> dict[str, float]:
        """Return recall@1 and @10 by the rows of the card."""
        searches = (
            ("trained emoji, new style", "train", HELD_OUT_STYLE),
            ("emoji held out", "test", UNSEEN_STYLE),
        )
        scores = {}
        for title, split, style in searches:
            drawn = self.drawn(split, style)
            for language in LANGUAGES:
                similarity = self.similarities(drawn, style, language)
                for depth in (1, 10):
                    name = f"{title} ({len(drawn)}), {language}: recall@{depth}"
                    scores[name] = recall(similarity, depth)
        return scores

    def logit_scale(self) -> float:
        """Return what cosines are multiplied with, so that scores of labels mean what they say.

        It is fitted to drawings of the development split, each classified by all their names.
        """
        drawn = self.drawn("dev", UNSEEN_STYLE)
        logits = UNSCALED * self.similarities(drawn, UNSEEN_STYLE, "en").T
        return UNSCALED / best_temperature(logits, torch.arange(len(drawn)))


def recall(similarity: Tensor, depth: int) -> float:
    """Return the share of texts whose own drawing (the same row) is among the nearest `depth`."""
    own = similarity.diagonal()[:, None]
    return float(((similarity > own).sum(1) < depth).float().mean())
