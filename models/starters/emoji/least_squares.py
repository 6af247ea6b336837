"""Towers to start from, found by least squares.

The place of a text is nearly the mean of a vector for each of its tokens, and the place of a
drawing nearly a linear function of the features that another training has found. Both are
solutions of linear systems, which take seconds. Training then goes on from there.
"""

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from models.starters.emoji.images import on_white
from models.starters.emoji.lessons import Lessons
from models.starters.emoji.pictures import Drawings
from models.starters.emoji.teacher import TEMPERATURE
from models.starters.emoji.towers import ImageTower, TextTower

BATCHES, TEXTS = 80, 1000
RIDGE = 0.05
RIDGE_OF_FEATURES = 1e-4
PROJECTION_RATE, PROJECTION_EPOCHS, PROJECTION_BATCH = 1e-3, 40, 1024
LEVEL = 3.0  # how much longer than a token's vector the constant part of a state is


def start_texts(tower: TextTower, lessons: Lessons) -> None:
    """Give the tower the weights with which it answers the least-squares solution, in place."""
    vocabulary, narrow = tower.encoder.tokens.weight.shape
    counts, places = _examples(lessons, vocabulary)
    gram = torch.from_numpy((counts.T @ counts).toarray()).float()
    gram.diagonal().add_(RIDGE)
    wanted = torch.from_numpy(counts.T @ places).float()
    vectors = torch.cholesky_solve(wanted, torch.linalg.cholesky(gram))
    # The tokens that occur often are kept most exactly in fewer dimensions.
    often = gram.diagonal().sqrt()[:, None]
    left, strengths, right = torch.linalg.svd(often * vectors, full_matrices=False)
    tokens = (left * strengths)[:, :narrow] / often
    _set(tower, tokens, right[:narrow].T)


def start_projection(tower: ImageTower, drawings: Drawings, places: Tensor) -> None:
    """Give the tower the last layer that puts drawings nearest to their emoji, in place.

    The solution of least squares is improved by a softmax over all emoji; the features below
    stay as they are, so they are computed once.
    """
    tower.eval()
    with torch.no_grad():
        parts = [tower.features(on_white(part)) for part in drawings.pixels.split(128)]
    features, own = torch.cat(parts), torch.from_numpy(drawings.concepts)
    weights = drawings.weights[:, None]
    gram = features.T @ (weights * features)
    gram.diagonal().add_(RIDGE_OF_FEATURES * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, (weights * features).T @ places[own])
    tower.project.weight.data.copy_(solution.T)
    optimiser = torch.optim.Adam([tower.project.weight], lr=PROJECTION_RATE)
    for _ in range(PROJECTION_EPOCHS):
        for rows in torch.randperm(len(features)).split(PROJECTION_BATCH):
            vectors = functional.normalize(tower.project(features[rows]))
            losses = functional.cross_entropy(
                vectors @ places.T / TEMPERATURE, own[rows], reduction="none"
            )
            optimiser.zero_grad(set_to_none=True)
            (losses * drawings.weights[rows]).mean().backward()
            optimiser.step()
    tower.train()


def _examples(lessons: Lessons, vocabulary: int) -> tuple[csr_matrix, np.ndarray]:
    """Return shares of tokens [texts, vocabulary] and places [texts, dimensions]."""
    counts, places = [], []
    for _ in range(BATCHES):
        batch = lessons.batch(TEXTS)
        mask = batch.mask.numpy().astype(bool)
        rows = np.repeat(np.arange(len(mask)), mask.sum(1))
        shares = np.repeat(1 / mask.sum(1), mask.sum(1))
        tokens = batch.ids.numpy()[mask]
        counts.append(csr_matrix((shares, (rows, tokens)), (len(mask), vocabulary)))
        places.append(batch.places.numpy())
    return vstack(counts).tocsr(), np.concatenate(places).astype(np.float64)


@torch.no_grad()
def _set(tower: TextTower, tokens: Tensor, out: Tensor) -> None:
    """Let states be the vectors of tokens and a constant, which the last norm hardly scales."""
    encoder = tower.encoder
    narrow, width = tokens.shape[1], encoder.shape.width
    tokens /= tokens.norm(dim=1).mean()
    encoder.tokens.weight.copy_(tokens)
    encoder.widen.weight.zero_()
    encoder.widen.weight[:narrow].copy_(torch.eye(narrow))
    constant = LEVEL / (width - narrow) ** 0.5
    signs = torch.ones(width - narrow)
    signs[::2] = -1
    encoder.positions[:, narrow:] = constant * signs
    for layer in encoder.layers:
        for last in (layer.attention.out, layer.down):
            last.weight.zero_()
            last.bias.zero_()
    tower.project.weight.zero_()
    tower.project.weight[:, :narrow].copy_(out)
