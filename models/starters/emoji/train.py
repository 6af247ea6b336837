"""Trains the text tower of `emoji`: English and Chinese texts are put where their emoji are.

The space is that of a sentence model (`teacher.py`). The text tower learns where the sentence model
puts a text and which emoji it means; `train_images.py` puts the drawings into the same space.

Data: names and keywords of Unicode CLDR 47 of DIR/emoji_text_image; sentences of DIR/tatoeba_zh_en
(CC BY 2.0 FR) and DIR/massive_en_zh (CC BY 4.0), words of DIR/cedict_lexicon (CC BY-SA 4.0);
paraphrases written for this project. On one CPU core, an hour and 10 minutes:

    python -m models.starters.emoji.train_images --data DIR --out runs/emoji
    python -m models.starters.emoji.train --data DIR --out runs/emoji

Both train without the emoji held out first, to measure how the recipe does on them, and then go on
with all emoji to the model that is exported. At the end the last layer of the image towers is
fitted once more: drawings are put between the place of their emoji and where the text tower puts
its names and paraphrases.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.emoji import (
    LANGUAGES,
    TRAINED_STYLES,
    Concept,
    all_captions,
    read_concepts,
    read_paraphrases,
)
from models.datasets.files import Pair, train_wordpiece
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.emoji.least_squares import start_texts
from models.starters.emoji.lessons import Batch, Lessons, Words, english, read_sentences
from models.starters.emoji.pictures import load_drawings
from models.starters.emoji.projection import features, fit_last_layer
from models.starters.emoji.teacher import Space, Teacher, read_space
from models.starters.emoji.towers import ImageTower, Similarity, TextTower
from models.starters.emoji.train_images import load_images
from models.starters.text_encoder import TextEncoderShape, mask_words

VOCABULARY_SIZE = 7_000
MAX_LENGTH = 48
MOST_MASKED = 0.2
TEXTS_A_STEP = 160
PEAK_RATE = 2.0e-3
PLACE_WEIGHT = 2.0
KNOWN_SHARE = 0.35  # of the time, without the emoji held out
STEPS_BETWEEN_RECORDS = 50
TEXTS_FILE = "texts.pt"


class Course:
    """A text tower in training, and the average of its weights."""

    def __init__(self, tower: TextTower, places: Tensor) -> None:
        self.tower, self.places = tower, places
        self.average = WeightAverage(tower, decay=0.99)
        self._similarity = Similarity()
        groups = decayed_groups(tower, 0.02)
        groups.append({"params": list(self._similarity.parameters()), "weight_decay": 0.0})
        self._optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))

    def learn(self, batch: Batch, rate: float) -> float:
        """Take one step; return how far the answers are from the teacher's."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        ids = mask_words(batch.ids, MOST_MASKED)
        with mixed_precision():
            vectors = self._embed(ids, batch.mask)
        vectors = vectors.float()
        loss = functional.cross_entropy(self._similarity(vectors, self.places), batch.answers)
        missed = 1 - functional.cosine_similarity(vectors, batch.places).mean()
        self._optimiser.zero_grad(set_to_none=True)
        (loss + PLACE_WEIGHT * missed).backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 2.0)
        self._optimiser.step()
        self.average.update(self.tower)
        return float(loss.detach())

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed texts in four parts of similar length, for they differ a lot."""
        order = mask.sum(1).argsort()
        parts = []
        for rows in order.chunk(4):
            longest = int(mask[rows].sum(1).max())
            parts.append(self.tower(ids[rows, :longest], mask[rows, :longest]))
        return torch.cat(parts)[order.argsort()]


@dataclass(frozen=True, slots=True)
class Sources:
    """What a training learns from, besides the emoji."""

    sentences: Sequence[Pair]
    space: Space
    words: Words
    curves: Curves


def train(
    tower: TextTower,
    sources: Sources,
    concepts: Sequence[Concept],
    minutes: float,
    *,
    is_started: bool = False,
) -> TextTower:
    """Train a text tower on some concepts; return it with the average of its weights.

    A tower that is not started yet begins with the solution of least squares.
    """
    name = "all emoji" if is_started else "without held out"
    paraphrases = read_paraphrases()
    teacher = Teacher(sources.space, concepts, english(paraphrases))
    lessons = Lessons(
        concepts, paraphrases, teacher, sources.space, sources.sentences, sources.words
    )
    if not is_started:
        start_texts(tower, lessons)
    course = Course(tower.train(), torch.from_numpy(teacher.places))
    pace, losses = Pace(minutes), list[float]()
    with tqdm(desc=name, unit="step", mininterval=10) as bar:
        while (progress := pace.progress()) < 1:
            losses.append(
                course.learn(lessons.batch(TEXTS_A_STEP), PEAK_RATE * pace.rate(progress))
            )
            bar.update()
            if len(losses) % STEPS_BETWEEN_RECORDS == 0:
                loss = float(np.mean(losses[-STEPS_BETWEEN_RECORDS:]))
                sources.curves.record(len(losses), loss={name: loss})
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    tower.load_state_dict(course.average.module.state_dict())
    return tower.eval()


@torch.no_grad()
def text_vectors(
    tower: TextTower,
    words: Words,
    concepts: Sequence[Concept],
    paraphrases: Mapping[str, Sequence[str]],
) -> Tensor:
    """Return where the tower puts the names of each concept, and its paraphrases on average.

    The sum of these vectors: [concepts, DIMENSIONS].
    """
    found = []
    for concept in tqdm(concepts, desc="texts of emoji", mininterval=10):
        names = [concept.names[language] for language in LANGUAGES]
        phrases = paraphrases.get(concept.names["en"], ())
        vectors = functional.normalize(tower(*words([*names, *phrases])))
        of_names, of_phrases = vectors[: len(names)].sum(0), vectors[len(names) :].sum(0)
        found.append(of_names + of_phrases / max(1, len(phrases)))
    return torch.stack(found)


def meet_texts(
    images: ImageTower, texts: TextTower, sources: Sources, data: Path, concepts: Sequence[Concept]
) -> None:
    """Fit the last layer of the image tower to the places of emoji and of their texts.

    Texts are not read exactly where their emoji are (docs/decisions/0047).
    """
    places = functional.normalize(torch.from_numpy(sources.space.places(concepts)))
    readings = text_vectors(texts, sources.words, concepts, read_paraphrases())
    targets = functional.normalize(places + readings)
    drawings = load_drawings(data, concepts, TRAINED_STYLES)
    concept_rows = torch.from_numpy(drawings.concepts)
    fit_last_layer(images, features(images, drawings), concept_rows, targets)


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=10)
    everything = read_concepts(request.data)
    known = [concept for concept in everything if concept.split == "train"]
    sentences = read_sentences(request.data)
    paraphrases = list(itertools.chain.from_iterable(read_paraphrases().values()))
    written = [text for pair in sentences for text in (pair.en, pair.zh)]
    tokenizer = train_wordpiece(
        [*all_captions(known) * 3, *paraphrases * 3, *written], vocabulary_size=VOCABULARY_SIZE
    )
    shape = TextEncoderShape(
        tokenizer.get_vocab_size(), MAX_LENGTH, embedding=48, width=96, layers=1
    )
    space = read_space(request.out, sentences, everything)
    sources = Sources(sentences, space, Words(tokenizer, MAX_LENGTH), Curves("emoji: texts"))
    minutes = KNOWN_SHARE * request.minutes
    tower = train(TextTower(shape), sources, known, minutes)
    images = load_images(request.out)
    meet_texts(images.known, tower, sources, request.data, known)
    saved = {"shape": shape.as_dict(), "known": copy.deepcopy(tower.state_dict())}
    minutes = request.minutes - minutes
    tower = train(tower, sources, everything, minutes, is_started=True)
    meet_texts(images.all, tower, sources, request.data, everything)
    images.save(request.out)
    tokenizer.save(str(request.out / "tokenizer.json"))
    torch.save({**saved, "all": tower.state_dict()}, request.out / TEXTS_FILE)
    sources.curves.draw(CURVES / "emoji.png")
    tqdm.write(f"saved in {request.out}")


if __name__ == "__main__":
    main()
