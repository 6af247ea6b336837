"""A small one-stage, anchor-free detector in the manner of YOLO.

Every cell of two grids (strides 16 and 32) predicts one box, as distances from the cell's
centre to the four sides, and a score for every class. Plain 3x3 convolutions and ReLU only:
both become one kernel each when the graph is quantised.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

STRIDES = (16, 32)


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU; keeps the size at stride 1 and halves it at stride 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride]."""
        return torch.relu(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions around which the input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3)
        self.second = ConvNorm(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return cast("Tensor", x + self.second(self.first(x)))


class CrossStage(nn.Module):
    """Half of the channels go through bottlenecks; every intermediate result is kept."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        half = outputs // 2
        self.near = ConvNorm(inputs, half)
        self.far = ConvNorm(inputs, half)
        self.blocks = nn.ModuleList(Bottleneck(half) for _ in range(depth))
        self.join = ConvNorm(half * (2 + depth), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        parts = [self.near(x), self.far(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return cast("Tensor", self.join(torch.cat(parts, dim=1)))


class WidePool(nn.Module):
    """Adds what is seen in ever larger neighbourhoods: three 5x5 maxima, one after another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = ConvNorm(channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        parts = [self.reduce(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return cast("Tensor", self.join(torch.cat(parts, dim=1)))


class Head(nn.Module):
    """Class logits and box distances of one grid, from separate branches."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = ConvNorm(channels, channels, 3)
        self.class_logits = nn.Conv2d(channels, classes, 1)
        self.locate = ConvNorm(channels, channels // 2, 3)
        self.distances = nn.Conv2d(channels // 2, 4, 1)
        nn.init.constant_(self.class_logits.bias, -4.6)  # 1 % at first
        nn.init.constant_(self.distances.bias, 2.0)  # 2 cells to each side

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return distances [B, 4, H*W], positive, in cells, and class logits [B, C, H*W]."""
        # bf16 could not tell neighbouring pixels apart at 300, so boxes are made in fp32.
        distances = nn.functional.softplus(self.distances(self.locate(x)).float())
        return distances.flatten(2), self.class_logits(self.classify(x)).flatten(2)


class Detector(nn.Module):
    """Backbone, one top-down and one bottom-up step, two heads; about a million weights."""

    def __init__(self, classes: int, widths: Sequence[int] = (16, 32, 64, 112, 128)) -> None:
        super().__init__()
        stem, w4, w8, w16, w32 = widths
        neck = 80
        self.stem = ConvNorm(3, stem, 3, 2)
        self.stage4 = nn.Sequential(ConvNorm(stem, w4, 3, 2), CrossStage(w4, w4, 1))
        self.stage8 = nn.Sequential(ConvNorm(w4, w8, 3, 2), CrossStage(w8, w8, 2))
        self.stage16 = nn.Sequential(ConvNorm(w8, w16, 3, 2), CrossStage(w16, w16, 2))
        self.stage32 = nn.Sequential(
            ConvNorm(w16, w32, 3, 2), CrossStage(w32, w32, 1), WidePool(w32)
        )
        self.lateral = ConvNorm(w32, neck)
        self.merge16 = CrossStage(neck + w16, neck, 1)
        self.down = ConvNorm(neck, neck, 3, 2)
        self.merge32 = CrossStage(neck + neck, neck, 1)
        self.heads = nn.ModuleList(Head(neck, classes) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict for every cell of both grids, the finer grid first.

        Args:
            images: [B, 3, S, S], RGB, 0..1; S is a multiple of 32.

        Returns:
            boxes [B, 4, N] as left, top, right, bottom in input pixels, and logits [B, C, N].
        """
        fine = self.stage16(self.stage8(self.stage4(self.stem(images))))
        coarse = self.lateral(self.stage32(fine))
        raised = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        grid16 = self.merge16(torch.cat([raised, fine], dim=1))
        grid32 = self.merge32(torch.cat([self.down(grid16), coarse], dim=1))
        boxes, logits = [], []
        for head, stride, grid in zip(self.heads, STRIDES, (grid16, grid32), strict=True):
            distances, scores = head(grid)
            centres = cell_centres(grid.shape[2], grid.shape[3], stride).to(distances)
            reach = distances * stride
            boxes.append(torch.cat([centres - reach[:, :2], centres + reach[:, 2:]], dim=1))
            logits.append(scores)
        return torch.cat(boxes, dim=2), torch.cat(logits, dim=2)


class ServedDetector(nn.Module):
    """The detector with the output that is served, the layout of Ultralytics' YOLOv8."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, S, S] to [B, 4 + C, N]: centre x and y, width, height, class scores."""
        boxes, logits = self.detector(images)
        low, high = boxes[:, :2], boxes[:, 2:]
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], dim=1)


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """Return the centres [2, rows * columns] (x, then y) of a grid's cells, row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return (torch.stack([x, y]).flatten(1) + 0.5) * stride


def all_centres(size: int) -> Tensor:
    """Return the centres [2, N] of all cells for a square input, in the detector's order."""
    return torch.cat([cell_centres(size // s, size // s, s) for s in STRIDES], dim=1)
