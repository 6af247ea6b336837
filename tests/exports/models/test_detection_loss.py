"""Cells answer for objects they lie in, and are paid for how well they do."""

import math

import pytest

torch = pytest.importorskip("torch")

from models.starters.cards.loss import (  # noqa: E402
    Targets,
    assign,
    box_overlap,
    complete_overlap,
    detection_loss,
)
from models.starters.cards.model import all_centres  # noqa: E402

CENTRES = all_centres(64).T  # 4 x 4 cells of 16 pixels, then 2 x 2 of 32


def targets(*boxes: tuple[float, ...], padding: int = 0) -> Targets:
    rows = [list(box) for box in boxes] + [[0.0] * 4] * padding
    present = [True] * len(boxes) + [False] * padding
    return Targets(
        torch.tensor([rows], dtype=torch.float32).reshape(1, -1, 4),
        torch.arange(len(rows))[None] % 3,
        torch.tensor([present]),
    )


def answers_of(box: tuple[float, ...], score: float = 0.5):
    """Every cell predicts the same box and the same score for each of three labels."""
    boxes = torch.tensor(box).expand(1, len(CENTRES), 4).clone()
    return boxes, torch.full((1, len(CENTRES), 3), score)


def test_overlap_of_boxes_worked_out_by_hand() -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    second = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]])
    torch.testing.assert_close(box_overlap(first, second), torch.tensor([1, 1 / 3, 0]))


def test_complete_overlap_worked_out_by_hand() -> None:
    same_shape = complete_overlap(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2]))
    assert same_shape.item() == pytest.approx(1 / 3 - 1 / 13, abs=1e-5)
    other_shape = complete_overlap(torch.tensor([0.0, 0, 4, 2]), torch.tensor([0.0, 0, 2, 4]))
    shape = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    weight = shape / (1 - 1 / 3 + shape)
    assert other_shape.item() == pytest.approx(1 / 3 - 2 / 32 - weight * shape, abs=1e-5)


def test_complete_overlap_pulls_boxes_together_that_do_not_touch() -> None:
    box = torch.tensor([0.0, 0, 10, 10], requires_grad=True)
    complete_overlap(box, torch.tensor([50.0, 0, 60, 10])).backward()
    assert box.grad is not None
    assert box.grad[0] + box.grad[2] > 0  # moved as a whole


def test_only_cells_inside_an_object_answer_for_it() -> None:
    wanted = targets((0, 0, 33, 33))
    found = assign(*answers_of((0.0, 0, 30, 30)), CENTRES, wanted)
    inside = ((CENTRES > 0) & (CENTRES < 33)).all(1)
    assert torch.equal(found.positive[0], inside)
    assert (found.quality[0] > 0).eq(inside).all()


def test_an_object_takes_no_more_cells_than_candidates() -> None:
    found = assign(*answers_of((0.0, 0, 60, 60)), CENTRES, targets((0, 0, 64, 64)), candidates=5)
    assert int(found.positive.sum()) == 5


def test_the_best_cell_should_score_its_overlap_and_the_others_less() -> None:
    boxes, scores = answers_of((0.0, 0, 64, 32))
    boxes[0, 5] = torch.tensor([0.0, 0, 64, 48])
    quality = assign(boxes, scores, CENTRES, targets((0, 0, 64, 64))).quality[0]
    assert quality[5].item() == pytest.approx(0.75, abs=1e-4)
    others = torch.cat([quality[:5], quality[6:]])
    assert 0 < others.max() < 0.75 * (0.5 / 0.75) ** 6 + 1e-4


def test_a_contested_cell_goes_to_the_object_it_overlaps_most() -> None:
    wanted = targets((0, 0, 64, 64), (0, 0, 40, 40))
    found = assign(*answers_of((0.0, 0, 40, 40)), CENTRES, wanted, candidates=len(CENTRES))
    inside = ((CENTRES > 0) & (CENTRES < 40)).all(1)
    assert found.owner[0, inside].eq(1).all()
    assert found.owner[0, ~inside].eq(0).all()


def test_an_untrained_network_that_overlaps_nothing_still_gets_cells() -> None:
    found = assign(*answers_of((0.0, 0, 1, 1), 0.01), CENTRES, targets((20, 20, 60, 60)))
    assert found.positive.any()


def test_padding_changes_neither_assignment_nor_loss() -> None:
    torch.manual_seed(0)
    boxes = torch.rand(1, 4, len(CENTRES)) * 20 + torch.tensor([0, 0, 30, 30])[None, :, None]
    logits = torch.randn(1, 3, len(CENTRES))
    few, many = targets((4, 4, 50, 50)), targets((4, 4, 50, 50), padding=3)
    plain, padded = (detection_loss(boxes, logits, CENTRES, each) for each in (few, many))
    torch.testing.assert_close(plain.total(), padded.total())


def test_a_scene_without_objects_teaches_to_score_nothing() -> None:
    boxes, logits = torch.zeros(1, 4, len(CENTRES)), torch.zeros(1, 3, len(CENTRES))
    logits.requires_grad_()
    losses = detection_loss(boxes, logits, CENTRES, targets(padding=1))
    losses.total().backward()
    assert losses.box.item() == 0
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_the_right_answer_costs_less_than_any_worse_one() -> None:
    wanted = targets((10, 10, 50, 40))
    low, high = torch.tensor([10, 10]), torch.tensor([50, 40])
    inside = ((low < CENTRES) & (high > CENTRES)).all(1)
    right = torch.tensor([10.0, 10, 50, 40]).expand(1, len(CENTRES), 4).transpose(1, 2)
    logits = torch.full((1, 3, len(CENTRES)), -9.0)
    logits[0, 0, inside] = 9.0

    def cost(boxes: torch.Tensor, scores: torch.Tensor) -> float:
        return float(detection_loss(boxes, scores, CENTRES, wanted).total())

    best = cost(right, logits)
    assert best < 0.01
    assert cost(right + 3, logits) > best + 0.1
    assert cost(right, logits.roll(1, dims=1)) > best + 0.1
