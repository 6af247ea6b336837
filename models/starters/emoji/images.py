"""Making every drawing look different each time it is seen, in batches on the CPU."""

import math

import torch
from torch import Tensor
from torch.nn import functional

MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.empty(count).uniform_(low, high)


def _some(count: int, share: float) -> Tensor:
    """Return the rows that are drawn, each with the given probability."""
    return (torch.rand(count) < share).nonzero()[:, 0]


def moved(images: Tensor, mirrored: Tensor) -> Tensor:
    """Rotate, scale, squeeze, shear and shift each image; mirror half of those that may be."""
    count = len(images)
    angle = _uniform(count, -15, 15) * math.pi / 180
    scale = torch.exp(_uniform(count, -0.12, 0.30))  # above 1 makes it smaller
    squeeze = torch.exp(_uniform(count, -0.12, 0.12))
    flip = torch.where(mirrored & (torch.rand(count) < 0.5), -1.0, 1.0)
    shear = _uniform(count, -0.12, 0.12)
    across = torch.stack([flip * scale * angle.cos(), scale * (shear - angle.sin())], 1)
    down = torch.stack([flip * scale * squeeze * angle.sin(), scale * squeeze * angle.cos()], 1)
    shift = torch.empty(count, 2, 1).uniform_(-0.12, 0.12)
    matrix = torch.cat([torch.stack([across, down], 1), shift], 2)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False, padding_mode="zeros")


def recoloured(colours: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and tint of [B, 3, H, W] in 0..1."""
    count = len(colours)
    grey = (colours * _LUMA).sum(1, keepdim=True)
    saturation = _uniform(count, 0.4, 1.6).view(-1, 1, 1, 1)
    saturation[_some(count, 0.08)] = 0  # now and then no colour at all
    colours = grey + (colours - grey) * saturation
    contrast = _uniform(count, 0.6, 1.4).view(-1, 1, 1, 1)
    tint = torch.empty(count, 3, 1, 1).uniform_(-0.12, 0.12)
    bright = _uniform(count, -0.12, 0.12).view(-1, 1, 1, 1)
    return ((colours - 0.5) * contrast + 0.5 + tint + bright).clamp(0, 1)


def outlined(images: Tensor) -> Tensor:
    """Draw dark lines where colour or coverage changes, as pen-like styles do.

    In a third of the images what lies between the lines is faded towards white, at most wholly.
    """
    padded = functional.pad(images, (1, 1, 1, 1))
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    edges = (dx.abs() + dy.abs()).amax(1, keepdim=True)
    strength = _uniform(len(images), 0.6, 1.6).view(-1, 1, 1, 1)
    line = ((edges - 0.2) * strength).clamp(0, 1)  # what is nearly flat stays clean
    alpha = images[:, 3:]
    faded = _uniform(len(images), -2.0, 1.0).clamp(min=0).view(-1, 1, 1, 1)
    colours = images[:, :3] + (alpha - images[:, :3]) * faded
    return torch.cat([colours * (1 - line), torch.maximum(alpha, line)], 1)


def textured(colours: Tensor) -> Tensor:
    """Blend each [3, H, W] with itself seen through a random 3x3 filter across the colours."""
    count, _, height, width = colours.shape
    if not count:
        return colours
    filters = torch.randn(count * 3, 3, 3, 3) / 27**0.5
    apart = colours.reshape(1, count * 3, height, width) - 0.5
    seen = functional.conv2d(apart, filters, padding=1, groups=count).reshape(colours.shape) + 0.5
    share = _uniform(count, 0.3, 1.0).view(-1, 1, 1, 1)
    return (colours + (seen - colours) * share).clamp(0, 1)


def _flattened(images: Tensor) -> Tensor:
    """Reduce shading to a few steps, towards the flat fills of simpler styles."""
    steps = _uniform(len(images), 2.5, 6.0).view(-1, 1, 1, 1)
    return (images * steps).round() / steps


def _backgrounds(count: int, size: int) -> Tensor:
    """White mostly, else one colour or a gradient between two: [count, 3, 1, size]."""
    ends = torch.rand(count, 3, 1, 2)
    one_colour = _some(count, 0.5)
    ends[one_colour] = ends[one_colour][..., :1].expand(-1, -1, -1, 2)
    ends[_some(count, 0.65)] = 1.0
    return functional.interpolate(ends, size=(1, size), mode="bilinear", align_corners=True)


def augmented(premultiplied: Tensor, mirrored: Tensor) -> Tensor:
    """Return normalised [B, 3, H, W] for training from uint8 [B, 4, H, W].

    Args:
        premultiplied: colours already multiplied by alpha.
        mirrored: bool [B], whether each image may be mirrored.
    """
    images = moved(premultiplied.float() / 255, mirrored)
    count = len(images)
    flat, pen, soft, noisy = (_some(count, share) for share in (0.25, 0.45, 0.2, 0.25))
    images[flat] = _flattened(images[flat])
    images[pen] = outlined(images[pen])
    alpha = images[:, 3:]
    plain = (images[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
    filtered = _some(count, 0.12)
    plain[filtered] = textured(plain[filtered])
    laid = recoloured(plain) * alpha + _backgrounds(count, images.shape[-1]) * (1 - alpha)
    laid[soft] = functional.avg_pool2d(laid[soft], 3, 1, 1, count_include_pad=False)
    laid[noisy] += torch.randn_like(laid[noisy]) * 0.04
    return normalised(laid.clamp(0, 1))


def on_white(premultiplied: Tensor) -> Tensor:
    """Return normalised [B, 3, H, W] as served: laid on white, otherwise untouched."""
    images = premultiplied.float() / 255
    return normalised(images[:, :3] + (1 - images[:, 3:]))


def normalised(images: Tensor) -> Tensor:
    """Shift and scale 0..1 by the mean and deviation of the manifest."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (images - mean) / deviation
