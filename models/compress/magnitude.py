"""Single weights set to zero, the smallest of all layers first, and kept there while learning.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (2015). The
matrices keep their shape: a graph of them compresses better and may be stored or sent as less, but
ONNX Runtime computes with the zeros, so it is no faster.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from models.compress.structure import Stack


def products_of(stacks: Sequence[Stack]) -> list[nn.Linear]:
    """Return the products of all layers; embeddings and the head are left alone."""
    return [
        module
        for stack in stacks
        for layer in stack.layers
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    ]


def prune_weights(stacks: Sequence[Stack], share: float) -> None:
    """Set the share of smallest weights over all layers to zero, in place."""
    products = products_of(stacks)
    prune.global_unstructured(
        [(product, "weight") for product in products], prune.L1Unstructured, amount=share
    )
    for product in products:
        prune.remove(product, "weight")


def zeros_of(stacks: Sequence[Stack]) -> float:
    """Return the share of the layers' weights that are zero."""
    weights = [product.weight for product in products_of(stacks)]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


@contextmanager
def zeros_kept(stacks: Sequence[Stack]) -> Iterator[None]:
    """Keep weights that are zero at zero while the block trains: they get no gradient."""

    def masked(weight: Tensor) -> torch.utils.hooks.RemovableHandle:
        mask = weight.detach() != 0
        return weight.register_hook(lambda slope: slope * mask)

    handles = [masked(product.weight) for product in products_of(stacks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
