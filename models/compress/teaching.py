"""What a student owes its teacher: the answers, softened, and the states on the way to them.

The answers are those of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
(2015): both sides' logits are divided by a temperature, and the loss is multiplied by its square,
so that its gradients do not shrink with it. The states are those of Jiao et al., "TinyBERT"
(2020): each of the student's, through a matrix that is learnt and thrown away, is to be the
teacher's at the same share of the depth.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.compress.learning import Course, Lesson, learn

_IGNORED = -100
"""A label that is none, as transformers pads translations."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of one batch."""

    logits: Tensor
    """[B, labels], or [B, T, words]."""
    states: Sequence[Tensor]
    """[B, T, width] each: what goes into the first layer, and what comes out of every one."""
    mask: Tensor
    """[B, T], 0 where a state is of padding."""


Reader: TypeAlias = Callable[[Lesson], Reading]


@dataclass(frozen=True, slots=True)
class Balance:
    """How much each part of the loss counts."""

    answers: float = 1.0
    states: float = 1.0
    labels: float = 0.0
    temperature: float = 2.0


def answers_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the divergence of softened answers, times the temperature's square."""
    given = functional.log_softmax(student.flatten(0, -2) / temperature, -1)
    wanted = functional.log_softmax(teacher.flatten(0, -2) / temperature, -1)
    loss = functional.kl_div(given, wanted, reduction="batchmean", log_target=True)
    return loss * temperature**2


def states_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean square error over real positions, as a share of the teacher's square."""
    real = mask[:, :, None].to(teacher.dtype)
    error = ((student - teacher).square() * real).sum()
    return error / (teacher.square() * real).sum().clamp(min=1e-6)


def teachers_of(student: int, teacher: int) -> list[int]:
    """Return for each of a student's states, the first included, the number of the teacher's.

    Both are spread evenly over the depth: the first learns from the first, the last from the last.
    """
    return [round(at * (teacher - 1) / max(1, student - 1)) for at in range(student)]


class Projections(nn.Module):
    """One matrix a state, from the student's width to the teacher's."""

    def __init__(self, states: int, student: int, teacher: int) -> None:
        super().__init__()
        self.matrices = nn.ModuleList(
            nn.Linear(student, teacher, bias=False) for _ in range(states)
        )
        if student == teacher:
            for matrix in self.matrices:
                nn.init.eye_(matrix.weight)

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Widen every state."""
        return [matrix(state) for matrix, state in zip(self.matrices, states, strict=True)]


def distil(
    student: nn.Module,
    readers: tuple[Reader, Reader],
    epochs: Callable[[], Iterator[Lesson]],
    course: Course,
    balance: Balance = Balance(),
) -> list[float]:
    """Teach a student, in place; return the loss of every step.

    Args:
        student: what learns.
        readers: how the student and how the teacher read a lesson. Their numbers of states and
            widths may differ; the positions must be the same.
        epochs: as `learn` takes it.
        course: time and rate.
        balance: what counts how much; labels count only in lessons that have some.
    """
    read, teach = readers
    projections: list[Projections] = []

    def loss_of(lesson: Lesson) -> Tensor:
        with torch.no_grad():
            wanted = teach(lesson)
        given = read(lesson)
        loss = balance.answers * answers_loss(given.logits, wanted.logits, balance.temperature)
        if balance.states:
            loss = loss + balance.states * _states(given, wanted, projections[0])
        if balance.labels and lesson.labels is not None:
            flat = given.logits.flatten(0, -2), lesson.labels.flatten()
            loss = loss + balance.labels * functional.cross_entropy(*flat, ignore_index=_IGNORED)
        return loss

    first = next(epochs())
    with torch.no_grad():
        own, other = read(first), teach(first)
    widths = own.states[0].shape[-1], other.states[0].shape[-1]
    projections.append(Projections(len(own.states), *widths))
    return learn(student, loss_of, epochs, course, also=projections)


def _states(given: Reading, wanted: Reading, projections: Projections) -> Tensor:
    chosen = teachers_of(len(given.states), len(wanted.states))
    pairs = zip(projections(given.states), chosen, strict=True)
    losses = [states_loss(one.float(), wanted.states[at], wanted.mask) for one, at in pairs]
    return torch.stack(losses).mean()
