"""Trains `digits`: a handwritten digit in a small picture, by a convolutional network.

Data: MNIST (LeCun, Cortes, Burges), http://yann.lecun.com/exdb/mnist/ , CC BY-SA 3.0; the
first 10,000 training images, read from DIR/mnist. Training pictures are also inverted, put
on uneven paper and blurred, so that a dark digit on a scanned page is read too. About 10
minutes on one CPU core:

    python -m models.starters.digits.train --data DIR --out runs/digits
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from models.datasets.files import data_folder
from models.pace import Pace, WeightAverage, decayed_groups
from models.starters.command_line import read_training_request
from models.starters.curves import CURVES, Curves

DEV_SIZE = 1_000  # the last training images, for choices
BATCH_SIZE = 128
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


def normalised(images: Tensor) -> Tensor:
    """Shift and scale 0..1 to -1..1, as the manifest's mean and deviation of 0.5 do."""
    return images * 2 - 1


def distorted(images: Tensor) -> Tensor:
    """Rotate, scale, shear, shift and bend each white-on-black [B, 1, 28, 28] in 0..1."""
    count, size = len(images), images.shape[-1]
    angle = torch.empty(count).uniform_(-15, 15) * math.pi / 180
    stretch = torch.empty(2, count).uniform_(-0.18, 0.25).exp()
    shear = torch.empty(count).uniform_(-0.25, 0.25)
    across = torch.stack([stretch[0] * angle.cos(), stretch[0] * (shear - angle.sin())], 1)
    down = torch.stack([stretch[1] * angle.sin(), stretch[1] * angle.cos()], 1)
    shift = torch.empty(count, 2, 1).uniform_(-0.16, 0.16)
    matrix = torch.cat([torch.stack([across, down], 1), shift], 2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    coarse = torch.randn(count, 2, 5, 5) * torch.empty(count, 1, 1, 1).uniform_(0, 0.07)
    bend = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, align_corners=False)


def photographed(images: Tensor) -> Tensor:
    """Make about half of the pictures look scanned: thicker or softer, uneven paper, inverted."""
    count, size = len(images), images.shape[-1]

    def some(share: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1) < share).float()

    def between(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high)

    soft, thick = some(0.2), some(0.15)
    images = soft * functional.avg_pool2d(images, 3, 1, 1) + (1 - soft) * images
    images = thick * functional.max_pool2d(images, 3, 1, 1) + (1 - thick) * images
    shades = functional.interpolate(
        torch.rand(count, 1, 3, 3), size=size, mode="bicubic", align_corners=True
    )
    paper = between(0, 0.3) + between(0, 0.25) * shades
    ink = paper + (1 - paper) * between(0.55, 1)
    photo = paper + (ink - paper) * images + torch.randn_like(images) * between(0, 0.08)
    scanned = some(0.5)
    images = scanned * photo.clamp(0, 1) + (1 - scanned) * images
    dark_on_light = some(0.4)
    return dark_on_light * (1 - images) + (1 - dark_on_light) * images


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


def train(images: Tensor, digits: Tensor, minutes: float) -> tuple[nn.Module, Curves]:
    """Train for the given time and return the averaged model; dev is only watched."""
    training = images[:-DEV_SIZE], digits[:-DEV_SIZE]
    dev, dev_digits = images[-DEV_SIZE:], digits[-DEV_SIZE:]
    model = Digits()
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
    pictures = normalised(photographed(distorted(images)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(pictures)
    loss = functional.cross_entropy(logits.float(), digits, label_smoothing=0.05)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def main() -> None:
    """Train from the command line."""
    request = read_training_request(__doc__, minutes=10)
    images, digits = read_mnist(request.data, "train")
    model, curves = train(images, digits, request.minutes)
    request.out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict()}, request.out / "model.pt")
    curves.draw(CURVES / "digits.png", xlabel="epoch")
    tqdm.write(f"dev accuracy {curves.last('accuracy', 'dev'):.4f}, saved in {request.out}")


if __name__ == "__main__":
    main()
