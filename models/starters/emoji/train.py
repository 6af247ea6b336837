"""Trains `emoji`: pictures and English or Chinese phrases in one space, by two small towers.

Data, read from DIR/emoji_text_image: names and keywords of Unicode CLDR 47; drawings of
Twemoji (CC BY 4.0), Noto Color Emoji (OFL 1.1), Fluent Emoji 3D (MIT) and EmojiTwo
(CC BY 4.0). OpenMoji (CC BY-SA 4.0) is never trained on: it measures how a new drawing
style is met, and the weights owe nothing to it. About 45 minutes on one CPU core, or in several
stretches by `--resume`:

    python -m models.starters.emoji.train --data DIR --out runs/emoji
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.emoji import (
    LANGUAGES,
    TRAINED_STYLES,
    UNSEEN_STYLE,
    Concept,
    all_captions,
    premultiplied,
    read_concepts,
    read_style,
)
from models.datasets.files import pad_rows, train_wordpiece
from models.pace import Pace, WeightAverage, decayed_groups
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.emoji.images import augmented, on_white
from models.starters.emoji.towers import DIMENSIONS, ImageTower, TextTower
from models.starters.text_encoder import TextEncoderShape, mask_words

VOCABULARY_SIZE = 4_000
MAX_LENGTH = 48
MOST_MASKED = 0.2
CONCEPTS_A_STEP = 96
PEAK_RATE = 2.0e-3
PROXY_WEIGHT = 0.5
STEPS_BETWEEN_MEASURES = 200


class Emoji(nn.Module):
    """Both towers and the learned temperature of their similarity."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.text, self.image = TextTower(shape), ImageTower()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def scale(self) -> Tensor:
        """Return what cosines are multiplied with: 1 / temperature, at most 60."""
        return self.log_scale.clamp(max=math.log(60.0)).exp()


@dataclass(frozen=True, slots=True)
class Drawings:
    """Every trained drawing of some concepts: pixels, and which rows draw which concept."""

    pixels: Tensor  # uint8 [rows, 4, 64, 64], premultiplied
    rows: list[list[int]]  # by concept
    mirrored: Tensor  # bool, by concept

    def sample(self, chosen: np.ndarray, generator: np.random.Generator) -> Tensor:
        """Return two augmented drawings of each concept, in different styles where it has two.

        The first half of the result is one drawing of each, the second half the other.
        """
        pairs = [
            generator.choice(self.rows[at], 2, replace=len(self.rows[at]) < 2) for at in chosen
        ]
        rows = np.array(pairs).T.reshape(-1)
        may = self.mirrored[torch.from_numpy(np.tile(chosen, 2))]
        return augmented(self.pixels[torch.from_numpy(rows)], may)


def load_drawings(root: Path, concepts: Sequence[Concept], styles: Sequence[str]) -> Drawings:
    """Read the drawings of the concepts in the given styles."""
    rows: list[list[int]] = [[] for _ in concepts]
    pixels: list[np.ndarray] = []
    for style in styles:
        images = read_style(root, style)
        for at, concept in enumerate(concepts):
            if concept.code in images:
                rows[at].append(len(pixels))
                pixels.append(premultiplied(images[concept.code]))
    mirrored = torch.tensor([concept.may_be_mirrored for concept in concepts])
    return Drawings(torch.from_numpy(np.stack(pixels)), rows, mirrored)


@dataclass(frozen=True, slots=True)
class Words:
    """Turns captions into the text tower's inputs."""

    tokenizer: Tokenizer

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and mask [B, longest], padded with 0."""
        rows = [encoding.ids[:MAX_LENGTH] for encoding in self.tokenizer.encode_batch(list(texts))]
        ids, mask = pad_rows(rows, pad_id=0)
        return torch.from_numpy(ids), torch.from_numpy(mask)


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second half of the rows."""
    first, second = rows.chunk(2)
    return first, second


def contrast(left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE: row i of each side belongs to row i of the other and to no other row."""
    logits = scale * left @ right.T
    targets = torch.arange(len(left))
    along, across = (functional.cross_entropy(m, targets) for m in (logits, logits.T))
    return (along + across) / 2


@torch.no_grad()
def recall(
    model: Emoji, words: Words, names: Sequence[str], pixels: Tensor, depth: int = 10
) -> float:
    """Return the share of names whose own drawing (the same row) is among the nearest `depth`."""
    images = [functional.normalize(model.image(on_white(part))) for part in pixels.split(128)]
    texts = functional.normalize(model.text(*words(names)))
    similarity = texts @ torch.cat(images).T
    own = similarity.diagonal()[:, None]
    return float(((similarity > own).sum(1) < depth).float().mean())


class EmojiTraining:
    """Everything that one run needs, and its single step."""

    def __init__(
        self, model: Emoji, words: Words, concepts: Sequence[Concept], drawings: Drawings
    ) -> None:
        self.model, self.words, self.concepts, self.drawings = model, words, concepts, drawings
        # One free vector a concept, which both towers are drawn to: all concepts are
        # negatives of every step, not only those in it. Thrown away afterwards.
        self.proxies = nn.Parameter(torch.randn(len(concepts), DIMENSIONS) * 0.05)
        self.average = WeightAverage(model, decay=0.995)
        groups = [
            *decayed_groups(model, 0.05),
            {"params": [self.proxies], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
        self.generator = np.random.default_rng(0)

    def restore(self, weights: dict[str, Tensor], proxies: Tensor) -> None:
        """Go on from the averaged weights and the proxies of an earlier run."""
        for module in (self.model, self.average.module):
            module.load_state_dict(weights)
        self.proxies.data.copy_(proxies)

    def chosen(self) -> Iterator[np.ndarray]:
        """Yield the concepts of each step for ever: every one once before any comes again."""
        while True:
            order = self.generator.permutation(len(self.concepts))
            for start in range(0, len(order) - CONCEPTS_A_STEP + 1, CONCEPTS_A_STEP):
                yield order[start : start + CONCEPTS_A_STEP]

    def step(self, chosen: np.ndarray, rate: float) -> float:
        """Take one optimiser step on the chosen concepts and return the image-text loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, total = self._losses(chosen)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimiser.step()
        self.average.update(self.model)
        return float(loss.detach())

    def _losses(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        captions = [
            self.concepts[at].caption(language, self.generator)
            for language in LANGUAGES
            for at in chosen
        ]
        with torch.autocast("cpu", torch.bfloat16):
            images = self.model.image(self.drawings.sample(chosen, self.generator))
            texts = self._embed(captions)
        images, texts = (functional.normalize(side.float()) for side in (images, texts))
        scale = self.model.scale()
        pairs = list(itertools.product(halves(images), halves(texts)))
        loss = torch.stack([contrast(image, text, scale) for image, text in pairs]).mean()
        within = [contrast(*halves(side), scale) for side in (images, texts)]
        proxies = functional.normalize(self.proxies)
        targets = torch.from_numpy(chosen).repeat(2)
        to_proxies = [
            functional.cross_entropy(scale * side @ proxies.T, targets) for side in (images, texts)
        ]
        extra = 0.25 * torch.stack(within).sum() + PROXY_WEIGHT * torch.stack(to_proxies).mean()
        return loss, loss + extra

    def _embed(self, captions: list[str]) -> Tensor:
        """Embed captions in four parts of similar length, for they differ a lot."""
        ids, mask = self.words(captions)
        order = mask.sum(1).argsort()
        parts = []
        for rows in order.chunk(4):
            longest = int(mask[rows].sum(1).max())
            part = mask_words(ids[rows, :longest], MOST_MASKED)
            parts.append(self.model.text(part, mask[rows, :longest]))
        return torch.cat(parts)[order.argsort()]


def train(
    run: EmojiTraining, dev: tuple[list[Concept], Tensor], minutes: float, curves: Curves
) -> None:
    """Train for the given time; `run.average` holds the result. Dev is only watched."""
    pace, before = Pace(minutes), curves.steps()
    losses: list[float] = []
    with tqdm(total=100, unit="%", desc="emoji") as bar:
        for step, chosen in enumerate(run.chosen(), 1):
            progress = pace.progress()
            losses.append(run.step(chosen, PEAK_RATE * pace.rate(progress)))
            bar.update(round(100 * progress, 1) - bar.n)
            if step % STEPS_BETWEEN_MEASURES and progress < 1:
                continue
            found = dev_recall(run, *dev)
            loss = float(np.mean(losses))
            curves.record(before + step, loss={"train": loss}, dev_recall_at_10=found)
            bar.set_postfix(step=step, loss=f"{loss:.3f}", dev=list(found.values()))
            losses.clear()
            if progress >= 1:
                return


def dev_recall(run: EmojiTraining, concepts: list[Concept], pixels: Tensor) -> dict[str, float]:
    """Return recall@10 of the averaged model on emoji it was not trained on, by language."""
    return {
        f"{language}, unseen emoji": recall(
            run.average.module,
            run.words,
            [concept.names[language] for concept in concepts],
            pixels,
        )
        for language in LANGUAGES
    }


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=45, resumable=True)
    everything = read_concepts(request.data)
    concepts = [concept for concept in everything if concept.split == "train"]
    dev = [c for c in everything if c.split == "dev" and UNSEEN_STYLE in c.styles]
    tokenizer = train_wordpiece(all_captions(concepts), vocabulary_size=VOCABULARY_SIZE)
    shape = TextEncoderShape(
        tokenizer.get_vocab_size(), MAX_LENGTH, embedding=48, width=96, layers=3
    )
    drawings = load_drawings(request.data, concepts, TRAINED_STYLES)
    dev_pixels = load_drawings(request.data, dev, [UNSEEN_STYLE]).pixels
    run = EmojiTraining(Emoji(shape), Words(tokenizer), concepts, drawings)
    curves = Curves("emoji")
    if request.resume:
        checkpoint = torch.load(request.out / "model.pt", weights_only=True)
        run.restore(checkpoint["model"], checkpoint["proxies"])
        curves.panels = checkpoint["curves"]
    train(run, (dev, dev_pixels), request.minutes, curves)

    request.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(request.out / "tokenizer.json"))
    checkpoint = {
        "shape": shape.as_dict(),
        "model": run.average.module.state_dict(),
        "proxies": run.proxies.detach(),
        "curves": curves.panels,
    }
    torch.save(checkpoint, request.out / "model.pt")
    curves.draw(CURVES / "emoji.png")
    tqdm.write(f"saved in {request.out}")


if __name__ == "__main__":
    main()
