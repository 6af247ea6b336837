"""The recipe as a whole, on one drawn photo and for a second."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")
pytest.importorskip("faster_coco_eval")
pytest.importorskip("onnxscript")

from models.datasets.detection import Photo, find_outlines, to_batch  # noqa: E402
from models.evaluate.detection_answers import Detections, detect  # noqa: E402
from models.starters.cards.export import as_answer, load_checkpoint  # noqa: E402
from models.starters.cards.model import Detector  # noqa: E402
from models.starters.cards.scenes import Scene, SceneMaker  # noqa: E402
from models.starters.cards.train import Plan, Watch, as_network, collate, train  # noqa: E402
from models.starters.curves import Curves  # noqa: E402

LABELS = ["red", "blue"]


def drawn_photo() -> Photo:
    pixels = np.full((160, 160, 3), (40, 160, 40), np.uint8)
    boxes = np.array([[20, 20, 70, 100], [90, 40, 140, 120]], np.float32)
    for (left, top, right, bottom), colour in zip(
        boxes.astype(int).tolist(), ((230, 20, 20), (20, 20, 230)), strict=True
    ):
        cv2.rectangle(pixels, (left, top), (right - 1, bottom - 1), colour, -1)
    return Photo("drawn.png", pixels, boxes, np.array([0, 1]))


def test_scenes_become_a_batch_padded_to_the_fullest() -> None:
    full = Scene(
        np.full((32, 32, 3), 255, np.uint8),
        np.array([[1, 2, 30, 31], [4, 4, 20, 20]], np.float32),
        np.array([5, 3]),
    )
    empty = Scene(np.zeros((32, 32, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    images, targets = collate([empty, full])
    assert images.shape == (2, 3, 32, 32)
    assert (images[0].max(), images[1].min()) == (0, 1)
    assert targets.present.tolist() == [[False, False], [True, True]]
    assert targets.labels[1].tolist() == [5, 3]
    assert targets.boxes[1].tolist() == full.boxes.tolist()


def test_channels_come_first_and_stay_in_order() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 1] = (255, 51, 0)
    batch = to_batch([pixels])
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0, :, 0, 1], [1, 0.2, 0])


def test_scenes_grow_and_calm_down_during_a_run() -> None:
    plans = [Plan.at(progress) for progress in (0, 0.5, 1)]
    assert [plan.size for plan in plans] == [256, 320, 320]
    assert plans[0].pasted == plans[1].pasted > plans[2].pasted


def test_a_short_training_leaves_a_checkpoint_that_can_be_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    photo = drawn_photo()
    maker = SceneMaker([photo], [find_outlines(photo)], np.random.default_rng(0))
    watch = Watch([photo], LABELS, tmp_path, Curves("drawn"))
    train(Detector(len(LABELS)), maker, watch, minutes=1 / 60, peak=2e-3)

    losses = watch.curves.panels["loss_on_scenes"]
    assert np.isfinite([value for line in losses.values() for _, value in line]).all()
    detector, labels = load_checkpoint(tmp_path)
    assert labels == LABELS
    (found,) = detect(as_network(detector), [photo], 0.0)
    assert len(found.scores) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes <= 160).all()
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_answer_has_the_shape_of_the_api() -> None:
    found = Detections(
        np.array([[1.234, 2, 3, 4.5]], np.float32),
        np.array([0.987654], np.float32),
        np.array([1]),
    )
    (answer,) = as_answer(found, LABELS)["objects"]
    assert answer == {"label": "blue", "score": 0.98765, "box": [1.23, 2.0, 3.0, 4.5]}
