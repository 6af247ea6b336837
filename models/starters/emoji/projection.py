"""The last layer of the image tower of `emoji`, fitted once more for given convolutions.

The features of each drawing are computed once, on white and changed as in training. Least squares
finds the layer that puts them nearest to the places of their emoji; a softmax over all emoji then
improves it.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from models.starters.emoji.images import augmented, on_white
from models.starters.emoji.pictures import Drawings
from models.starters.emoji.towers import ImageTower, Similarity

CHANGED = 3  # forms of each drawing, besides the drawing on white
RIDGE = 1e-3
STEPS, BATCH, RATE = 800, 512, 1e-3


@torch.no_grad()
def features(tower: ImageTower, drawings: Drawings, kept: Path | None = None) -> Tensor:
    """Return the features [forms, rows, FEATURES] of drawings, from the file if it is there."""
    if kept is not None and kept.is_file():
        return torch.load(kept, weights_only=True).float()
    tower.eval()
    parts = []
    for rows in tqdm(
        torch.arange(len(drawings.pixels)).split(128), desc="features", mininterval=10
    ):
        shown = drawings.pixels[rows]
        changed = [augmented(shown, drawings.mirrored[rows]) for _ in range(CHANGED)]
        parts.append(torch.stack([tower.features(form) for form in (on_white(shown), *changed)]))
    found = torch.cat(parts, 1).half()
    if kept is not None:
        torch.save(found, kept)
    return found.float()


def fit_last_layer(tower: ImageTower, found: Tensor, concepts: Tensor, places: Tensor) -> None:
    """Fit the last layer of a tower, so that drawings are at the places of their emoji.

    Args:
        tower: changed in place.
        found: features [forms, rows, FEATURES] of drawings.
        concepts: the index into `places` of each row; it need not name every place.
        places: [concepts, DIMENSIONS], of length 1.
    """
    kept, own = concepts.unique(return_inverse=True)
    weight, bias = fit_projection(found, own, places[kept])
    tower.project.weight.data.copy_(weight)
    tower.project.bias.data.copy_(bias)


def fit_projection(found: Tensor, own: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight [DIMENSIONS, FEATURES] and bias [DIMENSIONS] of the last layer.

    Args:
        found: features [forms, rows, FEATURES].
        own: the concept of each row.
        places: of the concepts, [concepts, DIMENSIONS].
    """
    forms, _, width = found.shape
    found, own = found.reshape(-1, width), own.repeat(forms)
    # Features are positive and vary unequally: without this, one step moves all outputs alike.
    middle, spread = found.mean(0), found.std(0) + 1e-3
    found = (found - middle) / spread
    gram = found.T @ found
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    layer = torch.nn.Linear(width, places.shape[1])
    layer.weight.data.copy_(torch.linalg.solve(gram, found.T @ places[own]).T)
    layer.bias.data.copy_(places[own].mean(0))
    similarity = Similarity()
    optimiser = torch.optim.Adam([*layer.parameters(), *similarity.parameters()], lr=RATE)
    for step in tqdm(range(STEPS), desc="last layer", mininterval=10):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        rows = torch.randint(len(found), (BATCH,))
        logits = similarity(layer(found[rows]), places)
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(logits, own[rows]).backward()
        optimiser.step()
    weight = (layer.weight / spread).detach()
    return weight, (layer.bias - weight @ middle).detach()
