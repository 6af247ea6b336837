"""The emoji recipe's own rules: what a caption is, what may be changed in a picture, the loss."""

import math

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from models.datasets.emoji import (  # noqa: E402
    HELD_OUT_STYLE,
    TRAINED_STYLES,
    Concept,
    all_captions,
    premultiplied,
)
from models.starters.emoji.images import augmented, normalised, on_white  # noqa: E402
from models.starters.emoji.train import contrast  # noqa: E402
from service.transforms.vision.image import decode_image  # noqa: E402
from service.transforms.vision.processing import ImageProcessor, Processing  # noqa: E402


def concept(name: str = "red heart", keywords: tuple[str, ...] = ("love", "red")) -> Concept:
    return Concept(
        code="2764",
        names={"en": name, "zh": "红心"},
        keywords={"en": list(keywords), "zh": ["爱", "心"]},
        styles=("noto",),
        split="train",
    )


def test_the_style_that_measures_new_styles_is_never_trained_on():
    assert HELD_OUT_STYLE not in TRAINED_STYLES


def test_captions_are_the_name_keywords_or_both():
    generator = np.random.default_rng(0)
    seen = {concept().caption("en", generator) for _ in range(300)}
    assert {"red heart", "love", "love, red", "red, love", "red heart, love"} <= seen
    words = {word for caption in seen for word in caption.split(", ")}
    assert words == {"red heart", "love", "red"}
    assert {concept().caption("zh", generator) for _ in range(50)} >= {"红心", "爱，心"}


def test_a_concept_without_keywords_is_called_by_its_name():
    alone = concept("heart", keywords=())
    assert {alone.caption("en", np.random.default_rng(seed)) for seed in range(20)} == {"heart"}


@pytest.mark.parametrize(
    ("name", "safe"),
    [("red heart", True), ("leftwards hand", False), ("flag: Japan", False), ("cat", True)],
)
def test_only_pictures_that_mean_the_same_in_a_mirror_may_be_mirrored(name, safe):
    assert concept(name).may_be_mirrored is safe


def test_every_name_and_keyword_trains_the_tokenizer():
    assert set(all_captions([concept()])) == {"red heart", "love", "red", "红心", "爱", "心"}


def drawing() -> Image.Image:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 40, 90, 255)
    pixels[20:30, 20:30, 3] = 128
    return Image.fromarray(pixels, "RGBA")


def test_drawings_are_evaluated_as_the_service_sees_them(tmp_path):
    drawing().save(tmp_path / "drawing.png")
    decoded = decode_image((tmp_path / "drawing.png").read_bytes())
    served, _ = ImageProcessor(Processing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3))(decoded)
    mine = on_white(torch.from_numpy(premultiplied(drawing()))[None])[0].numpy()
    np.testing.assert_allclose(mine, served, atol=2.5 / 127)


def test_augmented_pictures_differ_and_stay_in_range():
    torch.manual_seed(0)
    batch = torch.from_numpy(premultiplied(drawing()))[None].expand(12, -1, -1, -1)
    pictures = augmented(batch, torch.ones(12, dtype=torch.bool))
    assert pictures.shape == (12, 3, 64, 64)
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert torch.isfinite(pictures).all()
    assert len({picture.numpy().tobytes() for picture in pictures}) == 12


def test_normalisation_is_that_of_the_manifest():
    assert normalised(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3))[
        0, 0, 0
    ].tolist() == [-1, 0, 1]


def test_the_loss_is_smallest_when_each_finds_its_own():
    own, scale = torch.eye(4), torch.tensor(10.0)
    right = float(contrast(own, own, scale))
    assert right == pytest.approx(math.log(1 + 3 * math.exp(-10)), rel=1e-2)
    assert float(contrast(own, own.flip(0), scale)) > 9
    same = torch.ones(4, 4) / 2
    assert float(contrast(same, same, scale)) == pytest.approx(math.log(4))
