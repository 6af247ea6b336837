"""Temperature scaling: one number that makes the scores of a classifier mean what they say."""

import torch
from torch import Tensor
from torch.nn import functional


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature, 0.25 to 4, at which softmax(logits / T) has the least log loss.

    Args:
        logits: [N, labels].
        labels: the right ones, int64 [N].
    """
    candidates = torch.logspace(-2, 2, 401, base=2.0)
    losses = [float(functional.cross_entropy(logits / t, labels)) for t in candidates]
    return float(candidates[int(torch.tensor(losses).argmin())])
