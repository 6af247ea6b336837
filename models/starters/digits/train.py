"""Trains `digits`: a handwritten digit in a small picture, by a convolutional network.

Data: MNIST (LeCun, Cortes, Burges), http://yann.lecun.com/exdb/mnist/ , CC BY-SA 3.0; the
first 10,000 training images, read from DIR/mnist. Training pictures are made smaller, moved,
thickened, thinned, inverted, put on uneven paper and blurred, so that a dark digit somewhere on
a scanned page is read too. Empty pages are trained to no digit: the same score for all ten. A
temperature, chosen on the pictures kept for choices, makes scores mean what they say. About 15
minutes on one CPU core:

    python -m models.starters.digits.train --data DIR --out runs/digits

`--start VERSION` starts from the weights of a version.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.empty_pages import empty_pages
from models.datasets.files import data_folder
from models.pace import Pace, WeightAverage, decayed_groups, mixed_precision
from models.starters.calibration import best_temperature
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves
from models.starters.digits.pictures import (
    distorted,
    normalised,
    photographed,
    stroked,
)
from models.starters.start import read_weights, start_convolutions

DEV_SIZE = 1_000  # the last training images, for choices
BATCH_SIZE = 128
EMPTY_PAGES = 32  # in every batch, besides
PEAK_RATE = 3.0e-3


class Digits(nn.Module):
    """Logits of the ten digits from 28x28 grey pictures of either polarity."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_layer(1, 24),
            *_layer(24, 24),
            nn.MaxPool2d(2),
            *_layer(24, 48),
            *_layer(48, 48),
            nn.MaxPool2d(2),
            *_layer(48, 80),
            *_layer(80, 80),
            nn.MaxPool2d(2),
        )
        self.digits = nn.Linear(80 * 9, 10)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return logits [B, 10] for [B, 1, 28, 28] in -1..1."""
        features = functional.dropout(self.features(pixel_values).flatten(1), 0.3, self.training)
        logits: Tensor = self.digits(features)
        return logits


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def read_mnist(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return pictures [N, 1, 28, 28] in 0..1 and digits [N] of `train` or `test`."""
    file = data_folder(root, "mnist") / "mnist_10k_train_10k_test.npz"
    with np.load(file) as arrays:
        images = torch.from_numpy(arrays[f"x_{part}"])[:, None].float() / 255
        return images, torch.from_numpy(arrays[f"y_{part}"].astype(np.int64))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, digits: Tensor) -> float:
    """Return the share of pictures, in 0..1, that are read right."""
    logits = torch.cat([model(normalised(part)) for part in images.split(250)])
    return float((logits.argmax(1) == digits).float().mean())


def train(model: Digits, images: Tensor, digits: Tensor, minutes: float) -> tuple[Digits, Curves]:
    """Train for the given time and return the averaged model; dev is only watched."""
    training = images[:-DEV_SIZE], digits[:-DEV_SIZE]
    dev, dev_digits = images[-DEV_SIZE:], digits[-DEV_SIZE:]
    average = WeightAverage(model, decay=0.998)
    optimiser = torch.optim.AdamW(decayed_groups(model, 0.02), lr=PEAK_RATE)
    pace, curves, epoch = Pace(minutes), Curves("digits"), 0
    with tqdm(total=100, unit="%", desc="digits") as bar:
        while pace.progress() < 1:
            losses: list[float] = []
            for rows in torch.randperm(len(training[0])).split(BATCH_SIZE):
                progress = pace.progress()
                for group in optimiser.param_groups:
                    group["lr"] = PEAK_RATE * pace.rate(progress)
                losses.append(_step(model, training[0][rows], training[1][rows], optimiser))
                average.update(model)
                bar.update(round(100 * progress, 1) - bar.n)
                if progress >= 1:
                    break
            epoch += 1
            scores = {
                "dev": accuracy(average.module, dev, dev_digits),
                "dev, dark on white": accuracy(average.module, 1 - dev, dev_digits),
            }
            curves.record(epoch, loss={"train": float(np.mean(losses))}, accuracy=scores)
            bar.set_postfix(epoch=epoch, dev=f"{scores['dev']:.4f}", loss=f"{np.mean(losses):.3f}")
    return average.module, curves


def _step(
    model: nn.Module, images: Tensor, digits: Tensor, optimiser: torch.optim.Optimizer
) -> float:
    written, empty = photographed(distorted(stroked(images))), empty_pages(EMPTY_PAGES)
    pictures = normalised(torch.cat([written, empty]))
    with mixed_precision():
        logits = model(pictures)
    logits = logits.float()
    read = functional.cross_entropy(logits[: len(images)], digits, label_smoothing=0.02)
    # No digit: the distance of the scores from a tenth each.
    nothing = -functional.log_softmax(logits[len(images) :], 1).mean()
    loss = read + EMPTY_PAGES / BATCH_SIZE * nothing
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def calibrate(model: Digits, images: Tensor, digits: Tensor) -> float:
    """Divide the logits by the temperature of least log loss on these pictures; return it."""
    torch.manual_seed(0)
    seen = torch.cat([images, 1 - images, photographed(images)])
    logits = torch.cat([model(normalised(part)) for part in seen.split(250)])
    temperature = best_temperature(logits, digits.repeat(3))
    model.digits.weight /= temperature
    model.digits.bias /= temperature
    return temperature


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=15, startable=True)
    images, digits = read_mnist(request.data, "train")
    model = Digits()
    if request.start is not None:
        weights = read_weights(request.start / "model.onnx")
        examples = normalised(photographed(distorted(images[:512])))
        start_convolutions(model, weights, examples)
    model, curves = train(model, images, digits, request.minutes)
    temperature = calibrate(model, images[-DEV_SIZE:], digits[-DEV_SIZE:])
    request.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict()}, request.out / "model.pt")
    curves.draw(CURVES / "digits.png", xlabel="epoch")
    reached = curves.last("accuracy", "dev")
    tqdm.write(f"dev accuracy {reached:.4f}, temperature {temperature:.2f}: {request.out}")


if __name__ == "__main__":
    main()
