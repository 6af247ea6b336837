"""Resizing and letterboxes, compared pixel by pixel with OpenCV and the YOLO programs."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

cv2 = pytest.importorskip("cv2", reason='needs the extra "train"')

from PIL import Image  # noqa: E402

from service.transforms.vision.geometry import Placement  # noqa: E402
from service.transforms.vision.processing import ImageProcessor, Processing  # noqa: E402
from service.transforms.vision.sampling import Sampling, sampled  # noqa: E402

Sizes = tuple[int, int, int, int]


def sizes() -> Iterator[Sizes]:
    """200 pairs of sizes: up, down, by two, by two one way only, and of one pixel."""
    draw = np.random.default_rng(5)
    for number in range(200):
        width, height, to_width, to_height = draw.integers(1, 220, 4).tolist()
        if number % 10 == 0:
            width, height = 2 * to_width, 2 * to_height
        elif number % 10 == 1:
            width = 2 * to_width
        elif number % 10 == 2:
            width, height = max(1, to_width // 2), max(1, to_height // 2)
        elif number % 10 == 3:
            width, height = width % 3 + 1, height % 3 + 1
        yield width, height, to_width, to_height


def pixels(width: int, height: int, grey: bool) -> NDArray[np.uint8]:
    shape = (height, width) if grey else (height, width, 3)
    return np.random.default_rng(width + height).integers(0, 256, shape, np.uint8)


def resized(of: NDArray[np.uint8], width: int, height: int, flag: int) -> NDArray[np.uint8]:
    by_opencv = cv2.resize(of, (width, height), interpolation=flag)
    return np.asarray(by_opencv, np.uint8).reshape(height, width, *of.shape[2:])


@pytest.mark.parametrize("grey", [True, False], ids=["grey", "RGB"])
@pytest.mark.parametrize("by", ["bilinear", "nearest"])
def test_sampled_pixels_are_opencvs_to_the_last_bit(by: Sampling, grey: bool) -> None:
    flag = cv2.INTER_LINEAR if by == "bilinear" else cv2.INTER_NEAREST
    for width, height, to_width, to_height in sizes():
        image = pixels(width, height, grey)
        found = np.asarray(sampled(Image.fromarray(image), to_width, to_height, by))
        np.testing.assert_array_equal(found, resized(image, to_width, to_height, flag))


def test_strips_of_large_pictures_fit_together() -> None:
    for size, fitted in [((1500, 2100), (700, 933)), ((90, 61), (1400, 949))]:
        image = pixels(*size, grey=False)
        found = np.asarray(sampled(Image.fromarray(image), *fitted, "bilinear"))
        np.testing.assert_array_equal(found, resized(image, *fitted, cv2.INTER_LINEAR))


def test_bicubic_is_within_one_level_and_not_darker() -> None:
    differences = []
    for width, height, to_width, to_height in sizes():
        image = pixels(width, height, grey=False)
        found = np.asarray(sampled(Image.fromarray(image), to_width, to_height, "bicubic"))
        wanted = resized(image, to_width, to_height, cv2.INTER_CUBIC)
        differences.append((found.astype(int) - wanted).ravel())
    together = np.concatenate(differences)
    assert np.abs(together).max() <= 1
    assert abs(together.mean()) < 0.005
    assert np.count_nonzero(together) < 0.06 * together.size


def ultralytics(
    image: NDArray[np.uint8], shape: tuple[int, int], stride: int | None = None
) -> tuple[NDArray[np.uint8], Placement]:
    """LetterBox(scaleup=True) of YOLOv5 to 26, and the scales by which 26 goes back.

    A stride is that of LetterBox(auto=True).
    """
    height, width = image.shape[:2]
    gain = min(shape[0] / height, shape[1] / width)
    fitted = round(width * gain), round(height * gain)
    spare = shape[1] - fitted[0], shape[0] - fitted[1]
    across, down = (value / 2 if stride is None else value % stride / 2 for value in spare)
    if (width, height) != fitted:
        image = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(down - 0.1), round(down + 0.1)
    left, right = round(across - 0.1), round(across + 0.1)
    grey = (114, 114, 114)
    canvas = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey)
    return canvas, Placement(fitted[0] / width, fitted[1] / height, left, top, width, height)


def yolox(image: NDArray[np.uint8], shape: tuple[int, int]) -> tuple[NDArray[np.uint8], Placement]:
    """preproc of YOLOX: sides are truncated, the picture lies at the top left of grey 114."""
    height, width = image.shape[:2]
    gain = min(shape[0] / height, shape[1] / width)
    fitted = int(width * gain), int(height * gain)
    canvas = np.full((*shape, 3), 114, np.uint8)
    small = cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR)
    canvas[: fitted[1], : fitted[0]] = small
    return canvas, Placement(gain, gain, 0, 0, width, height)


CANVASES = [(64, 64), (96, 160), (131, 77)]


@pytest.mark.parametrize(("canvas", "stride"), [((64, 96), 32), ((128, 64), 16), ((80, 80), 32)])
def test_a_rectangle_is_ultralytics_to_the_last_bit(canvas: tuple[int, int], stride: int) -> None:
    recipe = Processing(
        resize="letterbox", size=canvas, canvas_stride=stride, antialias=False, rescale=1.0
    )
    processor, draw = ImageProcessor(recipe), np.random.default_rng(9)
    for width, height in draw.integers(8, 300, (200, 2)).tolist():
        image = pixels(width, height, grey=False)
        wanted, where = ultralytics(image, canvas, stride)
        tensor, place = processor(Image.fromarray(image))
        assert place == where
        np.testing.assert_array_equal(tensor, wanted.transpose(2, 0, 1))
        assert recipe.shape(height, width) == wanted.shape[:2]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
@pytest.mark.parametrize("original", [ultralytics, yolox], ids=["ultralytics", "yolox"])
def test_a_letterbox_is_the_originals_to_the_last_bit(
    original: object, canvas: tuple[int, int]
) -> None:
    anchor = "corner" if original is yolox else "centre"
    recipe = Processing(
        resize="letterbox", size=canvas, anchor=anchor, antialias=False, rescale=1.0
    )
    processor, draw = ImageProcessor(recipe), np.random.default_rng(9)
    for width, height in draw.integers(8, 300, (200, 2)).tolist():
        image = pixels(width, height, grey=False)
        wanted, where = (ultralytics if original is ultralytics else yolox)(image, canvas)
        tensor, place = processor(Image.fromarray(image))
        assert place == where
        np.testing.assert_array_equal(tensor, wanted.transpose(2, 0, 1))


def test_how_a_letterbox_rounds_can_be_said() -> None:
    # 100 x 37 in 64 x 64: 37 * 0.64 is 23.68.
    for anchor, rounds, rows in [
        ("centre", None, 24),
        ("corner", None, 23),
        ("centre", "down", 23),
        ("corner", "nearest", 24),
    ]:
        recipe = Processing(
            resize="letterbox", size=(64, 64), anchor=anchor, letterbox_rounds=rounds
        )
        assert recipe.fitted(37, 100)[0] == (rows, 64)
