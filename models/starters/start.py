"""Starting a training from the weights of a served version instead of random ones.

A version holds graphs in which batch norms are folded into convolutions. Each norm is put back in
the state in which it changes nothing: it gives what its convolution gave in the graph.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

Weights = dict[str, Tensor]


def read_weights(graph: Path, prefix: str = "") -> Weights:
    """Return the weights of a graph, in fp32, by their names in the module without the prefix."""
    named = {
        one.name.removesuffix(".fp16"): numpy_helper.to_array(one).astype(np.float32)
        for one in onnx.load(graph).graph.initializer
    }
    return {
        name.removeprefix(prefix): torch.from_numpy(np.array(values))
        for name, values in named.items()
        if name.startswith(prefix)
    }


@torch.no_grad()
def start_convolutions(module: nn.Module, weights: Weights, examples: Tensor) -> None:
    """Give a convolutional network the weights of its exported graph, in place.

    Weights of other shapes, such as those of a head for other classes, stay as they are.

    Args:
        module: with convolutions and norms where `fold_batch_norms` found them.
        weights: from `read_weights`.
        examples: a batch of inputs, from which the norms take their statistics.
    """
    folded = dict(_normalised_convolutions(module, ""))
    for name, norm in folded.items():
        bias = weights[f"{name}.bias"]
        norm.register_forward_pre_hook(_undo(norm, bias))
    own = {name: value for name, value in module.state_dict().items() if name in weights}
    fitting = {name: weights[name] for name, value in own.items() if _same(value, weights[name])}
    module.load_state_dict(fitting, strict=False)
    module.eval()(examples)
    for norm in folded.values():
        norm._forward_pre_hooks.clear()
    module.train()


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape


def _normalised_convolutions(
    module: nn.Module, prefix: str
) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """Yield the norm of each convolution that has one, by the convolution's name."""
    children = list(module.named_children())
    for (name, child), (_, following) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            yield f"{prefix}{name}", following
    for name, child in children:
        yield from _normalised_convolutions(child, f"{prefix}{name}.")


def _undo(norm: nn.BatchNorm2d, bias: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def prepare(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        deviation, mean = torch.std_mean(inputs[0], dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(deviation.square())
        norm.weight.copy_((deviation.square() + norm.eps).sqrt())
        norm.bias.copy_(mean + bias)

    return prepare
