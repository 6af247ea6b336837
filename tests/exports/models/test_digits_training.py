"""What the digits recipe does to its pictures."""

import pytest

torch = pytest.importorskip("torch")

from models.datasets.empty_pages import SIZE, empty_pages  # noqa: E402
from models.graphs.files import export_graph, fold_batch_norms, save_graph  # noqa: E402
from models.starters.calibration import best_temperature  # noqa: E402
from models.starters.digits.pictures import (  # noqa: E402
    distorted,
    normalised,
    photographed,
    stroked,
)
from models.starters.digits.train import Digits, calibrate  # noqa: E402
from models.starters.start import read_weights, start_convolutions  # noqa: E402


@pytest.fixture
def strokes() -> "torch.Tensor":
    torch.manual_seed(0)
    pictures = torch.zeros(64, 1, 28, 28)
    pictures[:, :, 6:22, 13:15] = 1.0
    return pictures


def test_distorted_strokes_keep_their_ink_and_are_all_different(strokes):
    changed = distorted(strokes)
    ink = changed.sum((1, 2, 3))
    assert ink.min() > 2
    assert ink.max() < 70
    assert len({picture.numpy().tobytes() for picture in changed}) == 64
    assert 0 <= changed.min() <= changed.max() <= 1


def test_some_pictures_come_out_dark_on_light_and_some_light_on_dark(strokes):
    corners = photographed(strokes)[:, 0, 0, 0]
    assert (corners > 0.6).sum() > 10
    assert (corners < 0.4).sum() > 10


def test_a_picture_is_read_the_same_alone_and_in_a_batch(strokes):
    model = Digits().eval()
    pictures = normalised(distorted(strokes))
    torch.testing.assert_close(model(pictures[3:4]), model(pictures)[3:4], atol=1e-5, rtol=0)
    assert model(pictures).shape == (64, 10)


def test_some_strokes_become_thinner_and_some_thicker_and_none_vanishes(strokes):
    strokes[:, :, 6:22, 12:16] = 1.0
    ink = stroked(strokes).sum((1, 2, 3))
    same = strokes[0].sum()
    assert 5 < (ink < 0.8 * same).sum() < 30
    assert 5 < (ink > 1.2 * same).sum() < 30
    assert ink.min() > 10


def test_empty_pages_are_of_many_kinds():
    torch.manual_seed(0)
    pages = empty_pages(200)
    assert pages.shape == (200, 1, SIZE, SIZE)
    assert 0 <= pages.min() <= pages.max() <= 1
    assert len({page.numpy().tobytes() for page in pages}) > 100
    assert (pages.mean((1, 2, 3)) > 0.9).sum() > 10
    assert (pages.mean((1, 2, 3)) < 0.1).sum() > 10


def test_a_temperature_makes_scores_what_they_say():
    torch.manual_seed(0)
    logits = torch.randn(4000, 10) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert best_temperature(logits, labels) == pytest.approx(1, rel=0.1)
    assert best_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)


def test_calibrating_changes_no_answer(strokes):
    torch.manual_seed(0)
    model, labels = Digits().eval(), torch.arange(64) % 10
    before = model(normalised(strokes)).detach()
    temperature = calibrate(model, strokes, labels)
    torch.testing.assert_close(model(normalised(strokes)) * temperature, before)


def test_training_starts_where_a_served_version_stands(strokes, tmp_path):
    torch.manual_seed(0)
    served = Digits()
    for _ in range(3):  # norms with statistics of their own
        served(normalised(photographed(strokes)))
    fold_batch_norms(served.eval())
    graph = export_graph(
        served,
        {"pixel_values": torch.zeros(2, 1, SIZE, SIZE)},
        outputs=["logits"],
        dynamic_axes={"pixel_values": {0: "batch"}},
    )
    save_graph(graph, tmp_path / "model.onnx")
    model = Digits()
    start_convolutions(model, read_weights(tmp_path / "model.onnx"), normalised(strokes))
    pictures = normalised(distorted(strokes))
    assert model.training
    torch.testing.assert_close(model.eval()(pictures), served(pictures), atol=1e-4, rtol=1e-3)
