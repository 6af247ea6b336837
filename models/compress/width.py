"""Feed-forward networks made narrower: the neurons that matter least go, with their weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.compress.importance import Scores
from models.compress.structure import Stack

_MULTIPLE = 8
"""Widths are multiples of it, which kernels are made for."""


def prune_width(
    model: Any, stacks: Sequence[Stack], scores: Sequence[Scores], share: float
) -> dict[str, int]:
    """Take the least important neurons out of every layer, in place; return the widths left.

    All layers of a stack lose equally many, because its configuration has one number for them.
    """
    widths = {}
    for stack, known in zip(stacks, scores, strict=True):
        before = len(known.neurons[0])
        left = max(_MULTIPLE, -(-round(before * (1 - share)) // _MULTIPLE) * _MULTIPLE)
        left = min(before, left)
        for up, down, neurons in zip(stack.ups(), stack.downs(), known.neurons, strict=True):
            kept = neurons.topk(left).indices.sort().values
            _keep(up, kept, 0)
            _keep(down, kept, 1)
        setattr(model.config, stack.width_key, left)
        widths[stack.width_key] = left
    return widths


@torch.no_grad()
def _keep(product: nn.Linear, kept: Tensor, axis: int) -> None:
    product.weight = nn.Parameter(product.weight.index_select(axis, kept).contiguous())
    if axis == 0:
        product.out_features = len(kept)
        if product.bias is not None:
            product.bias = nn.Parameter(product.bias[kept].contiguous())
    else:
        product.in_features = len(kept)
