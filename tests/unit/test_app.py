"""What the composition root does with the settings."""

import pytest

from service.api import Lifecycle
from service.app import build_app
from service.settings import read_settings
from service.transforms.vision.image import DECODING


def test_the_decoder_is_told_how_many_pixels_it_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DECODING, "most", DECODING.most)
    build_app(read_settings({"QUARTET_MODELS__MAX_DECODING_PIXELS": "1000000"}), Lifecycle())
    assert DECODING.most == 1_000_000
