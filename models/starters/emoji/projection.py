"""The last layer of the image tower of `emoji`, fitted once more for given convolutions.

The features of each drawing are computed once, on white and changed as in training. Least squares
finds the linear layer that puts them nearest to the places of their emoji; a softmax over all emoji
then improves it and the parallel hidden layer.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from models.starters.emoji.images import augmented, on_white
from models.starters.emoji.pictures import Drawings
from models.starters.emoji.towers import ImageTower, Projection, Similarity

CHANGED = 3  # forms of each drawing, besides the drawing on white
RIDGE = 1e-3
STEPS, BATCH, RATE = 2_500, 512, 2e-3
FIRST_STEPS = 50  # with rising rates


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


def fit_last_layer(
    tower: ImageTower, found: Tensor, concepts: Tensor, places: Tensor, steps: int = STEPS
) -> None:
    """Fit the last layer of a tower, so that drawings are at the places of their emoji.

    Args:
        tower: changed in place.
        found: features [forms, rows, FEATURES] of drawings.
        concepts: the index into `places` of each row; it need not name every place.
        places: [concepts, DIMENSIONS], of length 1.
        steps: of the softmax.
    """
    kept, own = concepts.unique(return_inverse=True)
    tower.project = fit_projection(found, own, places[kept], steps)


def fit_projection(found: Tensor, own: Tensor, places: Tensor, steps: int) -> Projection:
    """Return a last layer that puts features [forms, rows, FEATURES] at places [concepts, D].

    `own` is the concept of each row.
    """
    forms, _, width = found.shape
    found, own = found.reshape(-1, width), own.repeat(forms)
    # Features are positive and vary unequally: without this, one step moves all outputs alike.
    middle, spread = found.mean(0), found.std(0) + 1e-3
    found = (found - middle) / spread
    gram = found.T @ found
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    layer = Projection().requires_grad_(True).train()
    layer.direct.weight.data.copy_(torch.linalg.solve(gram, found.T @ places[own]).T)
    layer.direct.bias.data.copy_(places[own].mean(0))
    similarity = Similarity()
    optimiser = torch.optim.AdamW([*layer.parameters(), *similarity.parameters()])
    for step in tqdm(range(steps), desc="last layer", mininterval=10):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, step / FIRST_STEPS) * (1 - step / steps)
        rows = torch.randint(len(found), (min(BATCH, len(found)),))
        vectors = layer(found[rows])
        loss = functional.cross_entropy(similarity(vectors, places), own[rows])
        missed = 1 - functional.cosine_similarity(vectors, places[own[rows]]).mean()
        optimiser.zero_grad(set_to_none=True)
        (loss + missed).backward()
        optimiser.step()
    for one in (layer.direct, layer.up):
        one.weight.data.div_(spread)
        one.bias.data.sub_(one.weight.data @ middle)
    return layer.requires_grad_(False).eval()
