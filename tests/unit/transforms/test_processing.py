"""Recipes: what training saw is what is served, and sizes no image processor would refuse."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.transforms.vision.geometry import Placement, Sizing
from service.transforms.vision.image import letterbox, to_tensor
from service.transforms.vision.processing import ImageProcessor, Processing
from tests.unit.transforms.images import noise

SIZES = [(64, 48), (48, 64), (33, 90), (320, 320), (7, 3)]


@pytest.mark.parametrize("size", SIZES)
def test_a_recipe_gives_what_training_saw(size: tuple[int, int]) -> None:
    image = noise(*size)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    stretched = ImageProcessor(Processing(size=(40, 56), mean=mean, std=std))
    np.testing.assert_array_equal(stretched(image)[0], to_tensor(image, (40, 56), "RGB", mean, std))
    boxed, place = ImageProcessor(Processing(resize="letterbox", size=(96, 96)))(image)
    tensor, where = letterbox(image, 96, 114)
    np.testing.assert_array_equal(boxed, tensor)
    assert place == Placement(
        where.scale, where.scale, where.left, where.top, where.width, where.height
    )


def test_grey_and_blue_first() -> None:
    image = Image.new("RGB", (4, 4), (255, 51, 0))
    blue_first, _ = ImageProcessor(Processing(size=(4, 4), mode="BGR"))(image)
    np.testing.assert_allclose(blue_first[:, 0, 0], [0, 0.2, 1], rtol=1e-6)
    grey, _ = ImageProcessor(Processing(size=(4, 4), mode="L", mean=(0.5,)))(image)
    assert grey.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("sizing", "image", "shape"),
    [
        (Sizing("none"), (5, 7), (5, 7)),
        (Sizing("inside", (50, 50)), (100, 200), (25, 50)),
        (Sizing("inside", (200, 500)), (100, 200), (200, 400)),
        (Sizing("shortest_edge", shortest_edge=10), (10, 33), (10, 33)),
        (Sizing("shortest_edge", shortest_edge=800, longest_edge=1333), (600, 1334), (600, 1334)),
        (Sizing("shortest_edge", shortest_edge=800, longest_edge=1333), (1000, 500), (1333, 666)),
        (Sizing("shortest_edge", None, 800, 1333, multiple_of=16), (480, 640), (800, 1056)),
        (Sizing("stretch", (8, 9), crop=(4, 5)), (1, 1), (4, 5)),
    ],
)
def test_shapes_are_rounded_as_by_transformers(
    sizing: Sizing, image: tuple[int, int], shape: tuple[int, int]
) -> None:
    assert sizing.shape(*image) == shape


def test_a_crop_moves_points_and_what_is_beyond_the_edge_is_black() -> None:
    recipe = Processing(size=(4, 4), crop=(8, 2), rescale=1.0)
    tensor, place = ImageProcessor(recipe)(Image.new("RGB", (4, 4), (9, 9, 9)))
    assert (place.left, place.top) == (-1, 2)
    assert tensor[0, :, 0].tolist() == [0, 0, 9, 9, 9, 9, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "size must be given"),
        ({"size": (4, 4), "pad_value": 256}, "pad_value"),
        ({"size": (4, 4), "antialias": False, "resample": "box"}, "antialias"),
        ({"size": (4, 4), "std": (1.0, 0.0, 1.0)}, "std must be above zero"),
        ({"size": (4, 4), "mean": (1.0,)}, "3 number"),
        ({"resize": "letterbox", "size": (4, 4), "crop": (2, 2)}, "not cropped"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Processing(**wrong)
