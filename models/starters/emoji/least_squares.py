"""A text tower to start from, found by least squares.

The place of a text is nearly the mean of a vector for each of its tokens, which is the solution of
a linear system and takes seconds. Training then goes on from there.
"""

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack  # type: ignore[import-untyped]
from torch import Tensor

from models.starters.emoji.lessons import Lessons
from models.starters.emoji.towers import TextTower

BATCHES, TEXTS = 50, 1000
RIDGE = 0.05
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
