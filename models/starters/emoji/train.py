"""Trains `emoji`: pictures and English or Chinese phrases in one space, by two small towers.

The space is that of a sentence model (`teacher.py`), so an emoji has its place before anything is
trained. The text tower learns to put texts where the sentence model puts them, the image tower
to put drawings where their emoji is.

Data: names and keywords of Unicode CLDR 47 and drawings of Twemoji (CC BY 4.0), Noto Color Emoji
(OFL 1.1), Fluent Emoji 3D (MIT) and EmojiTwo (CC BY 4.0), read from DIR/emoji_text_image;
sentences of DIR/tatoeba_zh_en (CC BY 2.0 FR) and DIR/massive_en_zh (CC BY 4.0), words of
DIR/cedict_lexicon (CC BY-SA 4.0). OpenMoji (CC BY-SA 4.0) is never trained on: it measures how a
new drawing style is met. About 50 minutes on one CPU core:

    python -m models.starters.emoji.train --data DIR --out runs/emoji --held-out
    python -m models.starters.emoji.train --data DIR --out runs/emoji

The first trains without the emoji held out and writes what it scores on them, for the card; the
second trains on all emoji the model that is exported. `--start VERSION` takes the image tower's
convolutions from a version that was not trained on the emoji held out.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.emoji import (
    HELD_OUT_STYLE,
    LANGUAGES,
    TRAINED_STYLES,
    UNSEEN_STYLE,
    Concept,
    all_captions,
    read_concepts,
    read_paraphrases,
)
from models.datasets.files import train_wordpiece
from models.datasets.translation import Pair
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.emoji.images import on_white
from models.starters.emoji.least_squares import start_projection, start_texts
from models.starters.emoji.lessons import Batch, Lessons, Words, english, read_sentences
from models.starters.emoji.pictures import load_drawings
from models.starters.emoji.teacher import SentenceModel, Space, Teacher
from models.starters.emoji.towers import ImageTower, TextTower
from models.starters.start import read_weights, start_convolutions
from models.starters.text_encoder import TextEncoderShape, mask_words

VOCABULARY_SIZE = 8_000
MAX_LENGTH = 48
MOST_MASKED = 0.2
TEXTS_A_STEP, DRAWINGS_A_STEP = 256, 96
PEAK_RATE = 2.0e-3
PLACE_WEIGHT = 2.0
IMAGE_SHARE = 0.5  # of the time
STEPS_BETWEEN_RECORDS = 50
HELD_OUT_FILE = "held_out.json"


class Emoji(nn.Module):
    """Both towers, and the learned temperature of the similarity of each with the emoji."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.text, self.image = TextTower(shape), ImageTower()
        self.log_scales = nn.Parameter(torch.full((2,), math.log(1 / 0.06)))

    def scale(self, tower: int = 0) -> Tensor:
        """Return what cosines are multiplied with: 1 / temperature, at most 60."""
        return self.log_scales[tower].clamp(max=math.log(60.0)).exp()

    def similarity(self, vectors: Tensor, places: Tensor, tower: int) -> Tensor:
        """Return logits [B, concepts] of vectors of a tower (0: text, 1: image)."""
        logits: Tensor = self.scale(tower) * functional.normalize(vectors) @ places.T
        return logits


@torch.no_grad()
def recall(
    model: Emoji, words: Words, names: Sequence[str], pixels: Tensor, depth: int = 10
) -> float:
    """Return the share of names whose own drawing (the same row) is among the nearest `depth`."""
    images = [functional.normalize(model.image(on_white(part))) for part in pixels.split(128)]
    texts = [model.text(*words(names[at : at + 128])) for at in range(0, len(names), 128)]
    similarity = functional.normalize(torch.cat(texts)) @ torch.cat(images).T
    own = similarity.diagonal()[:, None]
    return float(((similarity > own).sum(1) < depth).float().mean())


class Course:
    """The two towers in training, one after the other, on one list of concepts."""

    def __init__(self, model: Emoji, places: Tensor) -> None:
        self.model, self.places = model, places
        self.average = WeightAverage(model, decay=0.995)
        self._optimiser = torch.optim.AdamW(
            decayed_groups(model, 0.05), lr=PEAK_RATE, betas=(0.9, 0.98)
        )

    def read(self, batch: Batch, rate: float) -> float:
        """Learn from a batch of texts; return how far their answers are from the teacher's."""
        ids = mask_words(batch.ids, MOST_MASKED)
        with mixed_precision():
            vectors = self._text(ids, batch.mask)
        vectors = vectors.float()
        logits = self.model.similarity(vectors, self.places, 0)
        loss = functional.cross_entropy(logits, batch.answers)
        missed = 1 - functional.cosine_similarity(vectors, batch.places).mean()
        self._learn(loss + PLACE_WEIGHT * missed, rate)
        return float(loss.detach())

    def _text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed texts in four parts of similar length, for they differ a lot."""
        order = mask.sum(1).argsort()
        parts = []
        for rows in order.chunk(4):
            longest = int(mask[rows].sum(1).max())
            parts.append(self.model.text(ids[rows, :longest], mask[rows, :longest]))
        return torch.cat(parts)[order.argsort()]

    def look(self, images: Tensor, concepts: Tensor, rate: float) -> float:
        """Learn from a batch of drawings; return the cross entropy of their emoji."""
        with mixed_precision():
            vectors = self.model.image(images)
        vectors = vectors.float()
        logits = self.model.similarity(vectors, self.places, 1)
        loss = functional.cross_entropy(logits, concepts)
        missed = 1 - functional.cosine_similarity(vectors, self.places[concepts]).mean()
        self._learn(loss + missed, rate)
        return float(loss.detach())

    def _learn(self, loss: Tensor, rate: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self._optimiser.step()
        self.average.update(self.model)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a training learns from, besides the emoji."""

    data: Path
    sentences: Sequence[Pair]
    space: Space
    words: Words
    curves: Curves


def train(model: Emoji, sources: Sources, concepts: Sequence[Concept], minutes: float) -> Emoji:
    """Train both towers on some concepts for the given time; return the averaged model."""
    paraphrases = read_paraphrases()
    teacher = Teacher(sources.space, concepts, english(paraphrases))
    lessons = Lessons(
        concepts, paraphrases, teacher, sources.space, sources.sentences, sources.words
    )
    start_texts(model.text, lessons)
    course = Course(model, torch.from_numpy(teacher.places))
    drawings = load_drawings(sources.data, concepts, TRAINED_STYLES)
    start_projection(model.image, drawings, course.places)
    batches = drawings.batches(DRAWINGS_A_STEP, np.random.default_rng(0))

    def read(rate: float) -> float:
        return course.read(lessons.batch(TEXTS_A_STEP), rate)

    def look(rate: float) -> float:
        images, shown = next(batches)
        return course.look(images, torch.from_numpy(shown), rate)

    for step, share, kind in ((read, 1 - IMAGE_SHARE, "texts"), (look, IMAGE_SHARE, "drawings")):
        pace, losses = Pace(minutes * share), list[float]()
        with tqdm(desc=kind, unit="step") as bar:
            while (progress := pace.progress()) < 1:
                losses.append(step(PEAK_RATE * pace.rate(progress)))
                bar.update()
                if len(losses) % STEPS_BETWEEN_RECORDS == 0:
                    loss = float(np.mean(losses[-STEPS_BETWEEN_RECORDS:]))
                    sources.curves.record(len(losses), loss={kind: loss})
                    bar.set_postfix(loss=f"{loss:.3f}")
    return course.average.module


def measure_held_out(
    model: Emoji, sources: Sources, concepts: Sequence[Concept]
) -> dict[str, float]:
    """Return recall@1 and @10 of what the model was not trained on, by the rows of the card."""
    searches = (
        ("trained emoji, new style", "train", HELD_OUT_STYLE),
        ("emoji held out", "test", UNSEEN_STYLE),
    )
    scores = {}
    for title, split, style in searches:
        drawn = [one for one in concepts if one.split == split and style in one.styles]
        pixels = load_drawings(sources.data, drawn, [style]).pixels
        for language, depth in itertools.product(LANGUAGES, (1, 10)):
            names = [one.names[language] for one in drawn]
            scores[f"{title} ({len(drawn)}), {language}: recall@{depth}"] = recall(
                model, sources.words, names, pixels, depth
            )
    return scores


def start_images(tower: ImageTower, version: Path, data: Path, known: Sequence[Concept]) -> None:
    """Give the image tower the convolutions of a version; the first ones are not trained on."""
    drawings = load_drawings(data, known[::10], TRAINED_STYLES)
    images, _ = next(drawings.batches(DRAWINGS_A_STEP, np.random.default_rng(0)))
    start_convolutions(tower, read_weights(version / "image_model.onnx"), images)
    for part in (tower.stem, tower.stem_norm, tower.blocks[0]):
        part.requires_grad_(requires_grad=False)


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=50, startable=True, can_hold_out=True)
    everything = read_concepts(request.data)
    known = [concept for concept in everything if concept.split == "train"]
    sentences = read_sentences(request.data)
    paraphrases = [text for texts in read_paraphrases().values() for text in texts]
    written = [text for pair in sentences for text in (pair.en, pair.zh)]
    tokenizer = train_wordpiece(
        [*all_captions(known) * 3, *paraphrases * 3, *written], vocabulary_size=VOCABULARY_SIZE
    )
    shape = TextEncoderShape(
        tokenizer.get_vocab_size(), MAX_LENGTH, embedding=48, width=96, layers=1
    )
    words = Words(tokenizer, MAX_LENGTH)
    sample = [*(pair.en for pair in sentences[::10]), *(one.names["en"] for one in known)]
    space = Space(SentenceModel(request.out / "sentences.npz"), sample)
    sources = Sources(request.data, sentences, space, words, Curves("emoji"))
    model = Emoji(shape)
    if request.start is not None:
        start_images(model.image, request.start, request.data, known)
    concepts = known if request.held_out else everything
    model = train(model, sources, concepts, request.minutes)
    if request.held_out:
        scores = measure_held_out(model, sources, everything)
        (request.out / HELD_OUT_FILE).write_text(json.dumps(scores, indent=2), encoding="utf-8")
        tqdm.write("\n".join(f"{name} {score:.4f}" for name, score in scores.items()))
        return
    tokenizer.save(str(request.out / "tokenizer.json"))
    torch.save({"shape": shape.as_dict(), "model": model.state_dict()}, request.out / "model.pt")
    sources.curves.draw(CURVES / "emoji.png")
    tqdm.write(f"saved in {request.out}")


if __name__ == "__main__":
    main()
