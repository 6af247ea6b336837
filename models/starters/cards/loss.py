"""Which cell answers for which object, and how wrong its answer is."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-7


@dataclass(frozen=True, slots=True)
class Targets:
    """The objects of a batch, padded to the same number M.

    `boxes` [B, M, 4] are left, top, right, bottom in pixels; `labels` [B, M] int64; `present`
    [B, M] bool tells objects from padding.
    """

    boxes: Tensor
    labels: Tensor
    present: Tensor


@dataclass(frozen=True, slots=True)
class Assignment:
    """What each of N cells should answer.

    `owner` [B, N] is the index of the object a cell answers for, meaningless where `positive`
    [B, N] is false; `quality` [B, N] is the score it should give, 0 where it answers for none.
    """

    owner: Tensor
    positive: Tensor
    quality: Tensor


def box_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of boxes [..., 4] that broadcast."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(
        -1
    )
    return shared / (areas - shared + EPSILON)


def complete_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap less penalties for distant centres and other proportions (CIoU).

    It is at most 1, and still says which way to move when boxes do not touch.
    """
    overlap = box_overlap(first, second)
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2]
    )
    apart = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    distance = apart.square().sum(-1) / (hull.square().sum(-1) + EPSILON)
    size, other = first[..., 2:] - first[..., :2], second[..., 2:] - second[..., :2]
    lean = torch.atan(size[..., 0] / (size[..., 1] + EPSILON))
    other_lean = torch.atan(other[..., 0] / (other[..., 1] + EPSILON))
    shape = (4 / math.pi**2) * (lean - other_lean).square()
    with torch.no_grad():
        weight = shape / (1 - overlap + shape + EPSILON)
    return overlap - distance - weight * shape


@torch.no_grad()
def assign(
    boxes: Tensor, scores: Tensor, centres: Tensor, targets: Targets, candidates: int = 10
) -> Assignment:
    """Give each object the cells that already answer best for it (task-aligned assignment).

    Only cells whose centre lies inside an object may answer for it. They are ranked by
    score^0.5 * overlap^6; a cell wanted by several objects goes to the one it overlaps most.
    The best cell of an object should score as much as its overlap, the others less.

    Args:
        boxes: predictions [B, N, 4].
        scores: predictions [B, N, C], 0..1.
        centres: centres of the cells [N, 2].
        targets: the objects.
        candidates: largest number of cells per object.
    """
    low = centres[None, None] - targets.boxes[:, :, None, :2]
    high = targets.boxes[:, :, None, 2:] - centres[None, None]
    inside = torch.cat([low, high], dim=-1).amin(-1) > 0
    inside &= targets.present[:, :, None]
    overlap = box_overlap(targets.boxes[:, :, None], boxes[:, None]).clamp(0, 1)  # [B, M, N]
    labels = targets.labels[:, :, None].expand(-1, -1, boxes.shape[1])
    score = scores.transpose(1, 2).gather(1, labels)
    # The small constant still ranks cells while an untrained network overlaps nothing.
    alignment = (score.sqrt() * overlap.pow(6) + EPSILON * EPSILON) * inside

    best = alignment.topk(min(candidates, boxes.shape[1]), dim=-1).indices
    chosen = torch.zeros_like(inside).scatter_(2, best, value=True) & inside
    contested = torch.where(chosen, overlap, torch.full_like(overlap, -1.0))
    owner = contested.argmax(1)
    positive = chosen.any(1)
    mine = functional.one_hot(owner, overlap.shape[1]).transpose(1, 2).bool() & chosen

    alignment = alignment * mine
    strongest = alignment.amax(-1, keepdim=True)
    reachable = (overlap * mine).amax(-1, keepdim=True)
    quality = (alignment / (strongest + EPSILON**3) * reachable).amax(1)
    return Assignment(owner, positive, quality * positive)


@dataclass(frozen=True, slots=True)
class Losses:
    """The parts of the loss, scalars, to be added up."""

    box: Tensor
    label: Tensor

    def total(self) -> Tensor:
        """Return what is minimised."""
        return 5.0 * self.box + self.label


def detection_loss(boxes: Tensor, logits: Tensor, centres: Tensor, targets: Targets) -> Losses:
    """Compare predictions `boxes` [B, 4, N] and `logits` [B, C, N] with the objects.

    Cells are paid by the quality they are assigned, so cells at an object's rim matter less.
    """
    boxes, logits = boxes.float().transpose(1, 2), logits.float().transpose(1, 2)
    found = assign(boxes.detach(), logits.detach().sigmoid(), centres, targets)
    wanted = targets.boxes.gather(1, found.owner[..., None].expand(-1, -1, 4))
    labels = targets.labels.gather(1, found.owner)
    scores = functional.one_hot(labels, logits.shape[-1]) * found.quality[..., None]
    scale = found.quality.sum().clamp(min=1.0)

    label = functional.binary_cross_entropy_with_logits(logits, scores, reduction="sum")
    mask = found.positive
    missed = 1 - complete_overlap(boxes[mask], wanted[mask])
    return Losses((missed * found.quality[mask]).sum() / scale, label / scale)
