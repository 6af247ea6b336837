"""What matters least: a number for every attention head and every feed-forward neuron.

With data it is the first-order Taylor expansion of what the loss would change by if the head or
neuron were silent: |sum of activation times gradient|, item by item (for heads Michel, Levy and
Neubig, "Are Sixteen Heads Really Better than One?", 2019; for neurons Molchanov et al., "Pruning
Convolutional Neural Networks for Resource Efficient Inference", 2017). Without, it is the size of
the weights: the length of what goes in and of what comes out (Han et al., 2015; Li et al., 2017).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from models.compress.learning import Lesson
from models.compress.structure import Stack, head_width

_LESSONS = 64
"""Batches that are looked at; the order of importance settles long before."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How much the parts of one stack matter, layer by layer."""

    heads: Sequence[Tensor]
    """[heads] each; none where heads cannot be taken away."""
    neurons: Sequence[Tensor]
    """[width] each."""


def by_magnitude(model: Any, stacks: Sequence[Stack]) -> list[Scores]:
    """Score by the size of the weights alone."""
    found = []
    for stack in stacks:
        heads = [
            reader.weight.detach().unflatten(1, (-1, head_width(model))).square().sum((0, 2)).sqrt()
            for reader in stack.readers_of_heads()
        ]
        neurons = [
            up.weight.detach().norm(dim=1) * down.weight.detach().norm(dim=0)
            for up, down in zip(stack.ups(), stack.downs(), strict=True)
        ]
        found.append(Scores(heads, neurons))
    return found


def by_taylor(
    model: Any,
    stacks: Sequence[Stack],
    loss_of: Callable[[Lesson], Tensor],
    lessons: Iterable[Lesson],
) -> list[Scores]:
    """Score by what the loss of some lessons would change by; weights are left as they are.

    Raises:
        ValueError: there are no lessons.
    """
    readers = [reader for stack in stacks for reader in (*stack.readers_of_heads(), *stack.downs())]
    totals = [torch.zeros(reader.in_features) for reader in readers]
    width = head_width(model)
    by_head = {id(reader) for stack in stacks for reader in stack.readers_of_heads()}
    model.eval()
    with _inputs_of(readers) as seen:
        for lesson in tqdm(islice(lessons, _LESSONS), desc="importance", unit="batch"):
            seen.clear()
            inputs = torch.autograd.grad(loss_of(lesson), _ordered(seen, readers))
            for at, (reader, slope) in enumerate(zip(readers, inputs, strict=True)):
                change = (seen[id(reader)].detach() * slope).flatten(1, -2).sum(1)
                if id(reader) in by_head:  # one number a head, before the sign is lost
                    change = change.unflatten(1, (-1, width)).sum(2).repeat_interleave(width, 1)
                totals[at] += change.abs().sum(0)
    if not any(total.any() for total in totals):
        raise ValueError("there are no lessons, or nothing that they could change")
    return _sorted_out(stacks, totals, width)


def _ordered(seen: dict[int, Tensor], readers: Sequence[nn.Linear]) -> list[Tensor]:
    return [seen[id(reader)] for reader in readers]


def _sorted_out(stacks: Sequence[Stack], totals: Sequence[Tensor], width: int) -> list[Scores]:
    given = iter(totals)
    return [
        Scores(
            [next(given)[::width] for _ in stack.readers_of_heads()],
            [next(given) for _ in stack.downs()],
        )
        for stack in stacks
    ]


@contextmanager
def _inputs_of(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Keep what each module was last given, by its identity."""
    seen: dict[int, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[id(module)] = inputs[0]

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
