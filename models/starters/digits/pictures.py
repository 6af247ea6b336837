"""Random changes to pictures of digits, for training."""

import math

import torch
from torch import Tensor
from torch.nn import functional

REACH = 0.8  # how far a digit of MNIST extends from the middle, where the rim is at 1


def normalised(images: Tensor) -> Tensor:
    """Shift and scale 0..1 to -1..1, as the manifest's mean and deviation of 0.5 do."""
    return images * 2 - 1


def stroked(images: Tensor) -> Tensor:
    """Make the strokes of some white-on-black [B, 1, 28, 28] in 0..1 thicker or thinner."""
    large = functional.interpolate(images, scale_factor=2, mode="bilinear")
    thin = functional.avg_pool2d(-functional.max_pool2d(-large, 3, 1, 1), 2)
    # What would vanish is left as it is.
    lasting = (thin.amax((1, 2, 3), keepdim=True) > 0.5).float()
    thick = functional.avg_pool2d(functional.max_pool2d(large, 5, 1, 2), 2)
    drawn = torch.rand(len(images), 1, 1, 1)
    some_thin, some_thick = (drawn < 0.2).float() * lasting, (drawn > 0.75).float()
    return some_thin * thin + some_thick * thick + (1 - some_thin - some_thick) * images


def distorted(images: Tensor) -> Tensor:
    """Rotate, scale, shear, shift and bend each white-on-black [B, 1, 28, 28] in 0..1.

    Half of them are as large as in MNIST, near the middle; the others down to 0.4 of that size,
    anywhere in the picture.
    """
    count, size = len(images), images.shape[-1]
    angle = torch.empty(count).uniform_(-15, 15) * math.pi / 180
    stretch = torch.empty(2, count).uniform_(-0.18, 0.25)
    smaller = torch.empty(count).uniform_(0, 0.8) * (torch.rand(count) < 0.5)
    stretch = (stretch + smaller).exp()
    shear = torch.empty(count).uniform_(-0.25, 0.25)
    across = torch.stack([stretch[0] * angle.cos(), stretch[0] * (shear - angle.sin())], 1)
    down = torch.stack([stretch[1] * angle.sin(), stretch[1] * angle.cos()], 1)
    room = (stretch.T - REACH).clamp(min=0.16)
    shift = (torch.empty(count, 2).uniform_(-1, 1) * room)[:, :, None]
    matrix = torch.cat([torch.stack([across, down], 1), shift], 2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    coarse = torch.randn(count, 2, 5, 5) * torch.empty(count, 1, 1, 1).uniform_(0, 0.07)
    bend = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, align_corners=False)


def photographed(images: Tensor) -> Tensor:
    """Make about half of the pictures look scanned: softer, uneven paper, noise, inverted."""
    count, size = len(images), images.shape[-1]

    def some(share: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1) < share).float()

    def between(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high)

    soft = some(0.2)
    images = soft * functional.avg_pool2d(images, 3, 1, 1) + (1 - soft) * images
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
