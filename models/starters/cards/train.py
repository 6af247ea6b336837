"""Trains `cards`: playing cards in a photo, by a one-stage network of a million weights.

Data: 363 photos of nine, ten, jack, queen, king and ace with boxes, by Evan Juras,
https://github.com/EdjeElectronics/TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-Windows-10 ,
Apache-2.0, read from DIR/playing_cards. The network starts from random weights and sees only
the 256 training photos, as scenes that are composed for every batch, and cards that are drawn for
them: the six ranks in other fonts, and other ranks, backs, blank cards and empty grounds, in which
there is nothing to find. About 55 minutes on one CPU core:

    python -m models.starters.cards.train --data DIR --out runs/cards

`--start VERSION` starts from the weights of a version.
"""  # noqa: E501 - the address

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from models.datasets.detection import (
    Photo,
    find_outlines,
    read_labels,
    read_photos,
    to_batch,
)
from models.datasets.files import data_folder
from models.evaluate.detection_answers import IMAGE_SIZE, Network, detect
from models.evaluate.detection_scores import DetectionScores, detection_scores
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.cards.loss import Targets, detection_loss
from models.starters.cards.model import Detector, ServedDetector, all_centres
from models.starters.cards.scenes import Scene, SceneMaker
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.start import read_weights, start_convolutions

SMALL_SIZE = 256  # for the first part of the run: a third cheaper
SMALL_SHARE = 0.4
FINAL_SHARE = 0.85  # from here on scenes are closer to the photos
BATCH_SIZE = 16
PEAK_RATE = 2e-3
STARTED_RATE = 1e-3  # from the weights of a version
WEIGHT_DECAY = 0.05
EVALUATIONS = 18
LOWEST_SCORE = 0.001


@dataclass(frozen=True, slots=True)
class Plan:
    """How scenes are drawn at some point of a run: side in pixels, share with pasted cards."""

    size: int
    pasted: float

    @classmethod
    def at(cls, progress: float) -> "Plan":
        """Return the plan for a share of the run, 0 to 1."""
        return cls(
            size=SMALL_SIZE if progress < SMALL_SHARE else IMAGE_SIZE,
            pasted=0.7 if progress < FINAL_SHARE else 0.4,
        )


def collate(scenes: Sequence[Scene]) -> tuple[Tensor, Targets]:
    """Return images [B, 3, S, S] and targets padded to the scene with most objects."""
    images = torch.from_numpy(to_batch([scene.pixels for scene in scenes]))
    most = max(1, *(len(scene.labels) for scene in scenes))
    boxes = torch.zeros(len(scenes), most, 4)
    labels = torch.zeros(len(scenes), most, dtype=torch.int64)
    present = torch.zeros(len(scenes), most, dtype=torch.bool)
    for row, scene in enumerate(scenes):
        count = len(scene.labels)
        boxes[row, :count] = torch.from_numpy(scene.boxes)
        labels[row, :count] = torch.from_numpy(scene.labels)
        present[row, :count] = True
    return images, Targets(boxes, labels, present)


def as_network(detector: nn.Module) -> Network:
    """Return a detector of PyTorch as a function of arrays, with the output that is served."""
    served = ServedDetector(detector).eval()

    @torch.no_grad()
    def network(images: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = served(torch.from_numpy(images)).numpy()
        return output

    return network


def measure(network: Network, photos: Sequence[Photo], labels: Sequence[str]) -> DetectionScores:
    """Score a network on some photos."""
    return detection_scores(photos, detect(network, photos, LOWEST_SCORE), labels)


def train_step(
    model: Detector, optimiser: torch.optim.Optimizer, scenes: Sequence[Scene], size: int
) -> dict[str, float]:
    """Learn from a batch of scenes; return the parts of the loss."""
    images, targets = collate(scenes)
    images = images.contiguous(memory_format=torch.channels_last)
    with mixed_precision():
        boxes, logits = model(images)
    losses = detection_loss(boxes, logits, all_centres(size).T.contiguous(), targets)
    optimiser.zero_grad(set_to_none=True)
    losses.total().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimiser.step()
    return {"box": float(losses.box.detach()), "label": float(losses.label.detach())}


@dataclass(slots=True)
class Watch:
    """Measures the averaged weights now and then, and keeps what has been reached so far."""

    dev: Sequence[Photo]
    labels: Sequence[str]
    out: Path
    curves: Curves

    def look(self, step: int, losses: Sequence[dict[str, float]], detector: nn.Module) -> None:
        """Score the detector on dev, draw the curves and save the checkpoint."""
        scores = measure(as_network(detector), self.dev, self.labels)
        parts = {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}
        dev = {"mAP@0.5": scores.map50, "mAP@0.5:0.95": scores.map}
        self.curves.record(step, loss_on_scenes=parts, dev=dev)
        self.curves.draw(self.out / "curves.png")
        weights = {name: value.contiguous() for name, value in detector.state_dict().items()}
        content = {"weights": weights, "labels": list(self.labels), "dev": asdict(scores)}
        torch.save(content, self.out / "checkpoint.pt")


def train(model: Detector, maker: SceneMaker, watch: Watch, minutes: float, peak: float) -> None:
    """Train for this many minutes at learning rates up to a peak."""
    model = model.to(memory_format=torch.channels_last)
    average = WeightAverage(model, decay=0.998)
    optimiser = torch.optim.AdamW(decayed_groups(model, WEIGHT_DECAY), lr=peak)
    pace, step, losses = Pace(minutes), 0, list[dict[str, float]]()
    with tqdm(total=EVALUATIONS, desc="cards", unit="evaluation") as bar:
        while (progress := pace.progress()) < 1:
            for group in optimiser.param_groups:
                group["lr"] = peak * pace.rate(progress)
            plan = Plan.at(progress)
            scenes = [maker.draw(plan.size, plan.pasted) for _ in range(BATCH_SIZE)]
            losses.append(train_step(model, optimiser, scenes, plan.size))
            average.update(model)
            step += 1
            if int(progress * EVALUATIONS) > bar.n:
                watch.look(step, losses[-100:], average.module)
                bar.set_postfix(step=step, mAP50=watch.curves.last("dev", "mAP@0.5"))
                bar.update(int(progress * EVALUATIONS) - bar.n)
    watch.look(step, losses[-100:], average.module)


def main() -> None:
    """Read the command line and train."""
    request = read_training_request(__doc__, minutes=55, startable=True)
    cv2.setNumThreads(torch.get_num_threads())
    request.out.mkdir(parents=True, exist_ok=True)
    folder = data_folder(request.data, "playing_cards")
    labels, photos, dev = (
        read_labels(folder),
        read_photos(folder, "train"),
        read_photos(folder, "dev"),
    )
    outlines = [find_outlines(photo) for photo in tqdm(photos, desc="outlines")]
    watch = Watch(dev, labels, request.out, Curves("cards"))
    maker = SceneMaker(photos, outlines, np.random.default_rng(0), labels)
    model = Detector(len(labels))
    if request.start is not None:
        examples, _ = collate([maker.draw(IMAGE_SIZE) for _ in range(2 * BATCH_SIZE)])
        weights = read_weights(request.start / "model.onnx", prefix="detector.")
        start_convolutions(model, weights, examples)
    peak = PEAK_RATE if request.start is None else STARTED_RATE
    train(model, maker, watch, request.minutes, peak)
    watch.curves.draw(CURVES / "cards.png")


if __name__ == "__main__":
    main()
