"""The training loop that fine-tuning after pruning and distillation share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from models.pace import Pace, WeightAverage, decayed_groups

_GRADIENT_NORM = 1.0
_LOOK_BACK = 50
"""Steps whose mean loss is shown."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch to learn from."""

    inputs: Mapping[str, Tensor]
    """By the names of the model's parameters."""
    labels: Tensor | None = None
    """What the data say: numbers of classes [B], or tokens of a translation [B, T]."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast to learn."""

    minutes: float
    rate: float
    """The peak; it warms up and decays with the time that has gone."""
    weight_decay: float = 0.01


def learn(
    model: nn.Module,
    loss_of: Callable[[Lesson], Tensor],
    epochs: Callable[[], Iterator[Lesson]],
    course: Course,
    also: Sequence[nn.Module] = (),
) -> list[float]:
    """Minimise a loss for the given time; the model ends with the average of its last weights.

    Args:
        model: what is trained, in place; it ends in evaluation mode.
        loss_of: of one lesson, differentiable.
        epochs: one pass over the lessons, as often as it is called.
        course: time and rate.
        also: modules that are trained with it and thrown away, such as projections.

    Returns:
        The loss of every step.

    Raises:
        ValueError: there are no lessons.
    """
    trained = nn.ModuleList([model, *also])
    optimiser = torch.optim.AdamW(decayed_groups(trained, course.weight_decay), lr=course.rate)
    average, pace = WeightAverage(model), Pace(course.minutes)
    losses: list[float] = []
    model.train()
    with tqdm(total=100, unit="%", desc="learning") as bar:
        for lesson in _endless(epochs):
            progress = pace.progress()
            if progress >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = course.rate * pace.rate(progress)
            loss = loss_of(lesson)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained.parameters(), _GRADIENT_NORM)
            optimiser.step()
            average.update(model)
            losses.append(float(loss.detach()))
            bar.update(round(100 * progress, 1) - bar.n)
            bar.set_postfix(step=len(losses), loss=f"{np.mean(losses[-_LOOK_BACK:]):.4f}")
        bar.update(100 - bar.n)
    model.load_state_dict(average.module.state_dict())
    model.eval()
    return losses


def _endless(epochs: Callable[[], Iterator[Lesson]]) -> Iterator[Lesson]:
    while True:
        some = False
        for lesson in epochs():
            some = True
            yield lesson
        if not some:
            raise ValueError("there is nothing to learn from")
