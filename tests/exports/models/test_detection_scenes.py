"""However a scene was drawn, its boxes lie on what can be seen of its objects."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from models.datasets.detection import Photo, find_outlines  # noqa: E402
from models.datasets.drawn_cards import RANKS, draw_card  # noqa: E402
from models.starters.cards.light import develop  # noqa: E402
from models.starters.cards.pieces import cut_pieces  # noqa: E402
from models.starters.cards.scenes import (  # noqa: E402
    OCCLUDER,
    Canvas,
    SceneMaker,
    transform,
)

GREEN, RED, BLUE = (30, 200, 30), (220, 20, 20), (20, 20, 230)


def photo_of(*quadrangles: tuple[tuple[int, ...], tuple[int, ...], int]) -> Photo:
    """Green ground with coloured quadrangles: corners (flat), colour, label."""
    pixels = np.full((180, 160, 3), GREEN, np.uint8)
    boxes, labels = [], []
    for corners, colour, label in quadrangles:
        points = np.array(corners, np.int32).reshape(4, 2)
        cv2.fillConvexPoly(pixels, points, colour)
        boxes.append([*points.min(0), *(points.max(0) + 1)])
        labels.append(label)
    return Photo("drawn.png", pixels, np.array(boxes, np.float32), np.array(labels))


TURNED = (60, 30, 130, 60, 100, 130, 30, 100)
ONE = photo_of((TURNED, RED, 2))
NEIGHBOURS = photo_of(
    ((20, 20, 60, 20, 60, 80, 20, 80), RED, 0), ((40, 50, 90, 50, 90, 120, 40, 120), BLUE, 1)
)


def test_an_outline_follows_a_turned_object_not_its_box() -> None:
    (outline,) = find_outlines(ONE)
    assert outline.clean
    assert outline.label == 2
    corners = np.array(TURNED, np.float32).reshape(4, 2)
    distances = np.linalg.norm(outline.points[:, None] - corners[None], axis=2)
    assert distances.min(axis=0).max() < 4
    assert cv2.contourArea(outline.points) == pytest.approx(cv2.contourArea(corners), rel=0.08)


def test_an_outline_that_cannot_be_found_is_its_box() -> None:
    plain = Photo(
        "plain.png",
        np.full((100, 100, 3), GREEN, np.uint8),
        np.array([[20, 30, 70, 80]], np.float32),
        np.array([1]),
    )
    (outline,) = find_outlines(plain)
    assert not outline.clean
    assert (outline.points.min(0).tolist(), outline.points.max(0).tolist()) == ([20, 30], [70, 80])


def test_only_objects_apart_from_others_are_cut_out() -> None:
    alone = cut_pieces([ONE], [find_outlines(ONE)])
    assert [piece.label for piece in alone] == [2]
    inside = cv2.pointPolygonTest(
        alone[0].points, alone[0].points.mean(0).tolist(), measureDist=False
    )
    assert inside > 0
    assert cut_pieces([NEIGHBOURS], [find_outlines(NEIGHBOURS)]) == []


def test_a_homography_moves_points_as_it_moves_pixels() -> None:
    matrix = np.array([[0.9, -0.3, 60], [0.3, 0.9, 5], [5e-4, -2e-4, 1]])
    moved = cv2.warpPerspective(ONE.pixels, matrix, (200, 200), borderValue=GREEN)
    corners = transform(np.array(TURNED, np.float32).reshape(4, 2), matrix)
    rows, columns = np.nonzero(moved[..., 0] > 150)
    extent = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose([*corners.min(0), *corners.max(0)], extent, atol=1.5)


def canvas() -> Canvas:
    return Canvas(np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8), [], [])


def rectangle(left: int, top: int, right: int, bottom: int):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_a_covered_object_keeps_the_box_of_what_is_left_of_it() -> None:
    drawn = canvas()
    drawn.lay(4, rectangle(10, 10, 60, 60))
    drawn.lay(5, rectangle(40, 0, 99, 99))
    scene = drawn.scene()
    assert scene.labels.tolist() == [4, 5]
    assert scene.boxes[0].tolist() == [10, 10, 40, 61]


def test_an_object_that_can_hardly_be_seen_is_not_asked_for() -> None:
    drawn = canvas()
    drawn.lay(4, rectangle(10, 10, 60, 60))
    drawn.lay(OCCLUDER, rectangle(20, 0, 99, 99))
    assert drawn.scene().labels.tolist() == []


def test_an_object_cut_by_the_rim_ends_at_the_rim() -> None:
    drawn = canvas()
    drawn.lay(1, rectangle(-20, 50, 40, 90))
    assert drawn.scene().boxes.tolist() == [[0, 50, 41, 91]]


def test_boxes_of_random_scenes_lie_on_the_objects() -> None:
    """Red occurs in the objects only, so its extent must be that of all boxes together."""
    maker = SceneMaker([ONE], [find_outlines(ONE)], np.random.default_rng(3))
    seen = 0
    for _ in range(30):
        drawn = maker._background(128)
        scene = drawn.scene()
        red = (scene.pixels[..., 0] > 140) & (scene.pixels[..., 1] < 90)
        red &= drawn.owner > 0  # a rim may be red, too
        if not len(scene.labels):
            continue
        rows, columns = np.nonzero(red)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(scene.boxes[0], extent, atol=4)
        assert red.sum() > 0.85 * (drawn.owner > 0).sum()
        seen += 1
    assert seen > 20


def test_pasted_objects_are_under_their_boxes() -> None:
    maker = SceneMaker([ONE], [find_outlines(ONE)], np.random.default_rng(5))
    for _ in range(20):
        drawn = canvas()
        drawn.pixels[:] = GREEN
        maker._paste_pieces(drawn)
        red = (drawn.pixels[..., 0] > 100) & (drawn.pixels[..., 1] < 100)
        owned = drawn.owner > 0
        assert (red & ~owned).sum() <= 0.06 * max(1, red.sum()) + 20
        assert (owned & ~red).sum() <= 0.06 * max(1, owned.sum()) + 20


def test_the_same_generator_draws_the_same_scenes() -> None:
    outlines = [find_outlines(ONE)]
    first, second = (SceneMaker([ONE], outlines, np.random.default_rng(7)) for _ in range(2))
    for _ in range(3):
        one, other = first.draw(96), second.draw(96)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        assert one.pixels.shape == (96, 96, 3)


def test_light_moves_nothing() -> None:
    scene = np.zeros((64, 64, 3), np.uint8)
    scene[20:40, 10:50] = 255
    generator = np.random.default_rng(1)
    for _ in range(20):
        bright = develop(scene, generator).mean(axis=2)
        assert bright[22:38, 12:48].mean() > bright[45:].mean() + 40


@pytest.mark.parametrize("rank", [*RANKS, None])
def test_a_drawn_card_is_paper_with_ink_inside_its_outline(rank: str | None) -> None:
    random = np.random.default_rng(0)
    cards = [draw_card(rank, random) for _ in range(12)]
    assert len({card.pixels.tobytes() for card in cards}) == 12
    for card in cards:
        assert card.rank == rank
        height, width = card.pixels.shape[:2]
        assert (card.points.min(0) >= 0).all()
        assert (card.points.max(0) <= (width, height)).all()
        assert cv2.contourArea(card.points) > 0.95 * width * height
        dark = (card.pixels.min(axis=2) < 170).mean()
        assert dark > 0.005 or rank is None


def test_drawn_cards_have_a_box_where_their_rank_has_a_label() -> None:
    names = [*RANKS]
    maker = SceneMaker([ONE], [find_outlines(ONE)], np.random.default_rng(0), names)
    scenes = [maker.draw(128) for _ in range(120)]
    labels = {int(label) for scene in scenes for label in scene.labels}
    assert labels == set(range(len(names)))
    empty = [scene for scene in scenes if not len(scene.labels)]
    assert len(empty) > 1
