"""Trains the image tower of `emoji`: drawings are put where the sentence model puts their emoji.

Drawings of Twemoji (CC BY 4.0), Noto Color Emoji (OFL 1.1), Fluent Emoji 3D (MIT) and EmojiTwo
(CC BY 4.0), read from DIR/emoji_text_image. OpenMoji (CC BY-SA 4.0) is never trained on: it
measures how a new drawing style is met.

    python -m models.starters.emoji.train_images --data DIR --out runs/emoji

Two towers are saved in the folder, for `train.py`: one that has seen no emoji held out, and one
that started from it and has seen all. Each drawing looks different every time; small drawings, a
quarter of the pixels, come first, since a step with them takes a third of the time. `--start
VERSION` takes the convolutions of a version that has not seen the emoji held out and solves only
the last layer: two minutes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from models.datasets.emoji import IMAGE_SIZE, TRAINED_STYLES, Concept, read_concepts
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.emoji.lessons import read_sentences
from models.starters.emoji.pictures import Drawings, load_drawings
from models.starters.emoji.projection import features, fit_last_layer
from models.starters.emoji.teacher import read_space
from models.starters.emoji.towers import ImageTower, Similarity
from models.starters.start import read_weights, start_convolutions

IMAGES_FILE = "images.pt"
BATCH = 96
STEPS_BETWEEN_RECORDS = 50


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training: its share of the time, side of the drawings, highest rate."""

    name: str
    share: float
    side: int
    rate: float
    held_out: bool


STAGES = (
    Stage("small drawings", 0.20, IMAGE_SIZE // 2, 3e-3, held_out=True),
    Stage("drawings", 0.45, IMAGE_SIZE, 2e-3, held_out=True),
    Stage("all emoji", 0.35, IMAGE_SIZE, 1.5e-3, held_out=False),
)


class Course:
    """An image tower in training, and the average of its weights."""

    def __init__(self, tower: ImageTower, places: Tensor, rate: float) -> None:
        self.tower = tower.to(memory_format=torch.channels_last)
        self.places = places
        self.average = WeightAverage(self.tower, decay=0.995)
        self._similarity = Similarity()
        groups = decayed_groups(self.tower, 0.05)
        groups.append({"params": list(self._similarity.parameters()), "weight_decay": 0.0})
        self._optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))

    def learn(self, images: Tensor, concepts: Tensor, rate: float) -> float:
        """Take one step; return the cross entropy of the emoji among all."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        with mixed_precision():
            vectors = self.tower(images.contiguous(memory_format=torch.channels_last))
        vectors = vectors.float()
        loss = functional.cross_entropy(self._similarity(vectors, self.places), concepts)
        missed = 1 - functional.cosine_similarity(vectors, self.places[concepts]).mean()
        self._optimiser.zero_grad(set_to_none=True)
        (loss + missed).backward()
        torch.nn.utils.clip_grad_norm_(self.tower.parameters(), 2.0)
        self._optimiser.step()
        self.average.update(self.tower)
        return float(loss.detach())


def train(
    tower: ImageTower,
    batches: Iterator[tuple[Tensor, np.ndarray]],
    places: Tensor,
    stage: Stage,
    minutes: float,
    curves: Curves,
) -> ImageTower:
    """Train a tower for the stage's share of the minutes; return the average of its weights."""
    course = Course(tower, places, stage.rate)
    pace, losses = Pace(minutes * stage.share), list[float]()
    with tqdm(desc=stage.name, unit="step", mininterval=10) as bar:
        while (progress := pace.progress()) < 1:
            images, shown = next(batches)
            rate = stage.rate * pace.rate(progress)
            losses.append(course.learn(images, torch.from_numpy(shown), rate))
            bar.update()
            if len(losses) % STEPS_BETWEEN_RECORDS == 0:
                loss = float(np.mean(losses[-STEPS_BETWEEN_RECORDS:]))
                curves.record(len(losses), loss={stage.name: loss})
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    average = course.average.module.to(memory_format=torch.contiguous_format)
    trained = ImageTower()
    trained.load_state_dict(average.state_dict())
    return trained


def from_version(
    version: Path, drawings: Drawings, places: Tensor, trained: Tensor, out: Path
) -> tuple[ImageTower, ImageTower]:
    """Return towers with the convolutions of a version: last layer for known, and for all emoji.

    Args:
        version: a folder with `image_model.onnx`.
        drawings: of all emoji.
        places: of all emoji.
        trained: bool [concepts], whether an emoji is trained on in the first tower.
        out: folder in which the features of the drawings are kept.
    """
    known, tower = ImageTower(), ImageTower()
    images, _ = next(drawings.batches(BATCH, np.random.default_rng(0)))
    graph = version / "image_model.onnx"
    for one in (known, tower):
        start_convolutions(one, read_weights(graph), images)
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()[:8]
    found = features(tower, drawings, out / f"features-{digest}.pt")
    own = torch.from_numpy(drawings.concepts)
    rows = trained[own]
    for one, some in ((known, rows), (tower, torch.ones_like(rows))):
        fit_last_layer(one, found[:, some], own[some], places)
    return known, tower


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=60, startable=True)
    everything = read_concepts(request.data)
    known = [concept for concept in everything if concept.split == "train"]
    space = read_space(request.out, read_sentences(request.data), everything)
    curves, towers = Curves("emoji: drawings"), dict[str, ImageTower]()

    def shown(concepts: Sequence[Concept]) -> tuple[Drawings, Tensor]:
        drawings = load_drawings(request.data, concepts, TRAINED_STYLES)
        return drawings, torch.from_numpy(space.places(concepts))

    if request.start is not None:
        trained = torch.tensor([concept.split == "train" for concept in everything])
        towers["known"], towers["all"] = from_version(
            request.start, *shown(everything), trained, request.out
        )
    else:
        tower = ImageTower()
        for stage in STAGES:
            drawings, places = shown(known if stage.held_out else everything)
            batches = drawings.batches(BATCH, np.random.default_rng(0), stage.side)
            tower = train(tower, batches, places, stage, request.minutes, curves)
            towers["known" if stage.held_out else "all"] = tower
        curves.draw(CURVES / "emoji_images.png")
    TrainedImages(**towers, is_started=request.start is not None).save(request.out)
    tqdm.write(f"saved in {request.out}")


@dataclass(frozen=True, slots=True)
class TrainedImages:
    """What the training saved: a tower that has not seen the emoji held out, and one that has."""

    known: ImageTower
    all: ImageTower
    is_started: bool
    """Whether the convolutions are those of a version."""

    def save(self, folder: Path) -> None:
        """Write them for `load_images`."""
        towers = {"known": self.known.state_dict(), "all": self.all.state_dict()}
        torch.save({**towers, "is_started": self.is_started}, folder / IMAGES_FILE)


def load_images(folder: Path) -> TrainedImages:
    """Read what was saved in the folder."""
    saved = torch.load(folder / IMAGES_FILE, weights_only=True)
    towers = {}
    for name in ("known", "all"):
        towers[name] = ImageTower().eval()
        towers[name].load_state_dict(saved[name])
    return TrainedImages(**towers, is_started=saved["is_started"])


if __name__ == "__main__":
    main()
