"""What the digits recipe does to its pictures."""

import pytest

torch = pytest.importorskip("torch")

from models.starters.digits.train import Digits, distorted, normalised, photographed  # noqa: E402


@pytest.fixture
def strokes() -> "torch.Tensor":
    torch.manual_seed(0)
    pictures = torch.zeros(64, 1, 28, 28)
    pictures[:, :, 6:22, 13:15] = 1.0
    return pictures


def test_distorted_strokes_keep_their_ink_and_are_all_different(strokes):
    changed = distorted(strokes)
    ink = changed.sum((1, 2, 3))
    assert ink.min() > 10
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
