"""The two towers of `emoji`: a text encoder and a residual CNN, ending in one space."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.starters.text_encoder import TextEncoder, TextEncoderShape

DIMENSIONS = 128
FEATURES = 5 * (64 + 104)  # of a picture: of the last two stages, means of quarters and maxima
HIDDEN = 512

HIGHEST_SCALE = 60.0


class Similarity(nn.Module):
    """Cosines of vectors with places, times a learned scale of at most 60."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.06)))

    def forward(self, vectors: Tensor, places: Tensor) -> Tensor:
        """Return logits [B, N] of vectors [B, D] and places [N, D] of length 1."""
        scale = self.log_scale.clamp(max=math.log(HIGHEST_SCALE)).exp()
        logits: Tensor = scale * functional.normalize(vectors) @ places.T
        return logits


class TextTower(nn.Module):
    """English and Chinese text to vectors [B, 128], not normalised."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.encoder = TextEncoder(shape)
        self.project = nn.Linear(shape.width, DIMENSIONS, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed int64 ids under a 0/1 mask, both [B, T]."""
        vectors: Tensor = self.project(self.encoder(input_ids, attention_mask))
        return vectors


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut; a stride halves the picture."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H/stride, W/stride]."""
        inner = functional.relu(self.first_norm(self.first(images)))
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.shortcut_norm(self.shortcut(images)))


def mixed_styles(features: Tensor) -> Tensor:
    """Give half of the images channel statistics blended with those of another image.

    What an image shows stays, how it is drawn moves between the styles trained on (MixStyle,
    Zhou et al., 2021), so that the tower relies less on any of them. For training only.
    """
    count = len(features)
    deviation, mean = torch.std_mean(features.float(), dim=(2, 3), keepdim=True)
    deviation = deviation.detach() + 1e-4
    mean, other = mean.detach(), torch.randperm(count)
    share = torch.distributions.Beta(0.2, 0.2).sample((count, 1, 1, 1))
    share[torch.rand(count) < 0.5] = 1.0
    new_deviation = share * deviation + (1 - share) * deviation[other]
    new_mean = share * mean + (1 - share) * mean[other]
    return ((features.float() - mean) / deviation * new_deviation + new_mean).to(features.dtype)


class Projection(nn.Module):
    """Features of a picture to its vector: a linear layer, and a wide parallel hidden layer.

    The hidden layer changes nothing before `projection.py` fits it, after the convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.direct = nn.Linear(FEATURES, DIMENSIONS)
        self.up = nn.Linear(FEATURES, HIDDEN)
        self.down = nn.Linear(HIDDEN, DIMENSIONS, bias=False)
        nn.init.zeros_(self.down.weight)
        self.up.requires_grad_(False)
        self.down.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, FEATURES] to [B, DIMENSIONS]."""
        hidden = functional.dropout(functional.relu(self.up(features)), 0.1, self.training)
        vectors: Tensor = self.direct(features) + self.down(hidden)
        return vectors


class ImageTower(nn.Module):
    """64x64 RGB pictures to vectors [B, 128], not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(24)
        self.blocks = nn.Sequential(
            Block(24, 40, 2),
            Block(40, 64, 2),
            Block(64, 104, 2),
        )
        self.project = Projection()

    def features(self, pixel_values: Tensor) -> Tensor:
        """Return [B, FEATURES] of [B, 3, 64, 64], normalised as the manifest says."""
        features = functional.relu(self.stem_norm(self.stem(pixel_values)))
        if self.training:
            features = mixed_styles(features)
        features = self.blocks[0](features)
        if self.training:
            features = mixed_styles(features)
        pooled = []
        for block in self.blocks[1:]:
            features = block(features)
            quarters = functional.avg_pool2d(features, features.shape[-1] // 2)
            pooled += [quarters.flatten(1), features.amax((2, 3))]
        return torch.cat(pooled, dim=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed [B, 3, 64, 64], normalised by the mean and deviation of the manifest."""
        vectors: Tensor = self.project(self.features(pixel_values))
        return vectors
