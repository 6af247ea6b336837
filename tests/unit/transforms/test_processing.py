"""Recipes: tensors against Pillow, and sizes no image processor would refuse."""

from typing import Any, Literal

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision.geometry import Placement, Sizing
from service.transforms.vision.processing import ImageProcessor, Processing
from tests.sentences import sentence

GREY = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)
RED, GREEN = (255, 0, 0), (0, 255, 0)


def stretched(
    image: Image.Image,
    size: tuple[int, int],
    mode: Literal["L", "RGB"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> NDArray[np.float32]:
    return ImageProcessor(Processing(size=size, mode=mode, mean=mean, std=std))(image)[0]


def letterboxed(image: Image.Image, side: int, pad: int) -> tuple[NDArray[np.float32], Placement]:
    recipe = Processing(resize="letterbox", size=(side, side), pad_value=pad)
    return ImageProcessor(recipe)(image)


def test_a_tensor_is_normalised_channel_by_channel() -> None:
    image = Image.new("RGB", (2, 1))
    image.putdata([(0, 51, 255), (255, 102, 0)])
    tensor = stretched(image, (1, 2), "RGB", (0.5, 0.0, 1.0), (0.5, 1.0, 2.0))
    expected = np.array([[[-1, 1]], [[0.2, 0.4]], [[0, -0.5]]], np.float32)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, expected, atol=1e-7)


def test_a_tensor_of_the_right_size_is_not_resampled() -> None:
    tensor = stretched(Image.fromarray(GREY), (2, 3), "L", (0.0,), (1.0,))
    assert_array_equal(tensor, GREY[None].astype(np.float32) / np.float32(255))


def test_a_tensor_is_stretched_with_pillows_antialiased_bilinear() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    expected = Image.fromarray(noise).resize((8, 16), Image.Resampling.BILINEAR)
    tensor = stretched(Image.fromarray(noise), (16, 8), "RGB", (0, 0, 0), (1, 1, 1))
    reference = np.asarray(expected, np.float32).transpose(2, 0, 1) / np.float32(255)
    assert_array_equal(tensor, reference)


def test_grey_becomes_colour_and_colour_grey_as_the_model_wants() -> None:
    grey = Image.fromarray(GREY)
    assert stretched(grey, (2, 3), "RGB", (0, 0, 0), (1, 1, 1)).shape == (3, 2, 3)
    green = stretched(Image.new("RGB", (3, 2), GREEN), (2, 3), "L", (0,), (1,))
    assert_array_equal(green, np.full((1, 2, 3), np.float32(150) / np.float32(255)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), Placement(0.5, 0.5, 0, 40, 640, 480)),
        ((480, 640), Placement(0.5, 0.5, 40, 0, 480, 640)),
        ((320, 320), Placement(1.0, 1.0, 0, 0, 320, 320)),
        ((80, 160), Placement(2.0, 2.0, 80, 0, 80, 160)),
        ((640, 3), Placement(0.5, 2 / 3, 0, 159, 640, 3)),  # round(1.5) is 2
        ((100_000, 1), Placement(0.0032, 1.0, 0, 159, 100_000, 1)),  # never less than one pixel
    ],
)
def test_a_letterbox_keeps_the_shape_and_centres(
    size: tuple[int, int], expected: Placement
) -> None:
    tensor, where = letterboxed(Image.new("RGB", size, RED), 320, 114)
    assert where == expected
    assert tensor.shape == (3, 320, 320)
    inside = tensor[0] == 1.0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (columns[0], rows[0]) == (where.left, where.top)
    assert (columns.size, rows.size) == (size[0] * where.scale_x, size[1] * where.scale_y)
    assert (tensor[:, ~inside] == np.float32(114) / np.float32(255)).all()


def test_a_grey_image_is_letterboxed_in_colour() -> None:
    grey = Image.fromarray(np.kron(GREY, np.ones((16, 16), np.uint8)))
    assert_array_equal(letterboxed(grey, 48, 0)[0], letterboxed(grey.convert("RGB"), 48, 0)[0])


def test_a_letterbox_equals_pasting_on_a_grey_canvas() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8))
    canvas = Image.new("RGB", (32, 32), (114, 114, 114))
    canvas.paste(noise.resize((32, 19), Image.Resampling.BILINEAR), (0, 6))
    reference = np.asarray(canvas, np.float32).transpose(2, 0, 1) / np.float32(255)
    assert_array_equal(letterboxed(noise, 32, 114)[0], reference)


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
        (
            Sizing("shortest_edge", None, 800, 1333, multiple_of=32, multiple_rounds="up"),
            (640, 480),
            (1088, 800),
        ),
        (
            Sizing("shortest_edge", None, 800, 1333, multiple_of=32, multiple_rounds="up"),
            (300, 900),
            (448, 1344),
        ),
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
    "wrong",
    [
        {},
        {"size": (4, 4), "pad_value": 256},
        {"size": (4, 4), "antialias": False, "resample": "box"},
        {"size": (4, 4), "std": (1.0, 0.0, 1.0)},
        {"size": (4, 4), "mean": (1.0,)},
        {"resize": "letterbox", "size": (4, 4), "crop": (2, 2)},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, check=sentence):
        Processing(**wrong)
