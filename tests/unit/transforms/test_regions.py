"""Regions as run lengths, PNG files and polygons: each leads back to the same pixels."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.transforms.vision import contours as outlines
from service.transforms.vision.contours import Ring, contours
from service.transforms.vision.regions import (
    FORMS,
    Region,
    RegionForm,
    counts_of,
    mask_of,
    read_polygons,
    written,
)
from tests.sentences import sentence

windows = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def whole(region: Region) -> NDArray[np.bool_]:
    """The region as an image."""
    mask = np.zeros(region.shape, np.bool_)
    height, width = region.window.shape
    mask[region.top : region.top + height, region.left : region.left + width] = region.window
    return mask


def filled(rings: tuple[Ring, ...], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Rings by the even-odd rule: whether the middle of each pixel is inside."""
    finer, inside = 8, np.zeros((shape[0] * 8, shape[1] * 8), np.bool_)
    for ring in rings:
        image = Image.new("1", (shape[1] * finer, shape[0] * finer))
        corners = [(x * finer - 0.5, y * finer - 0.5) for x, y in ring]
        ImageDraw.Draw(image).polygon(corners, fill=1)
        inside ^= np.asarray(image)
    return inside[finer // 2 :: finer, finer // 2 :: finer]


@given(windows, st.tuples(*[st.integers(0, 5)] * 4))
def test_counts_lead_back_to_the_region(
    window: NDArray[np.bool_], around: tuple[int, int, int, int]
) -> None:
    left, top, right, bottom = around
    shape = window.shape[0] + top + bottom, window.shape[1] + left + right
    region = Region(window, left, top, shape)
    np.testing.assert_array_equal(mask_of(counts_of(region), shape), whole(region))


def test_counts_are_those_of_coco() -> None:
    """Written by pycocotools' `encode`."""
    window = np.zeros((90, 40), np.bool_)
    window[20:70, 10:30:3] = window[:, 33:36] = True
    assert counts_of(Region(window, 0, 0, window.shape)) == (b"hl0b1l600000000000P5l6\\O")
    empty = np.zeros((30, 40), np.bool_)
    assert counts_of(Region(empty, 0, 0, empty.shape)) == b"`U1"
    assert counts_of(Region(~empty, 0, 0, empty.shape)) == b"0`U1"


@given(windows)
def test_a_png_shows_the_region(window: NDArray[np.bool_]) -> None:
    region = Region(window, 2, 1, (window.shape[0] + 3, window.shape[1] + 2))
    with Image.open(io.BytesIO(base64.b64decode(written(region, "png")))) as image:
        np.testing.assert_array_equal(np.asarray(image), whole(region))


@given(windows)
def test_polygons_of_sharp_corners_hold_exactly_the_region(window: NDArray[np.bool_]) -> None:
    # Three times as large, no corner is cut.
    large = window.repeat(3, 0).repeat(3, 1)
    region = Region(large, 4, 2, (large.shape[0] + 2, large.shape[1] + 4))
    rings = read_polygons(written(region, "polygons"))
    np.testing.assert_array_equal(filled(rings, region.shape), whole(region))


def test_a_slanted_edge_is_a_line_and_no_staircase() -> None:
    y, x = np.mgrid[:300, :400]
    ellipse = (x - 200) ** 2 / 150**2 + (y - 150) ** 2 / 100**2 < 1
    ring_shaped = ellipse & ((x - 200) ** 2 + (y - 150) ** 2 > 40**2)
    outer, hole = contours(ring_shaped)
    assert len(outer) < 300
    assert len(hole) < 100
    wrong = filled((outer, hole), ring_shaped.shape) != ring_shaped
    inner = np.logical_and.reduce(
        [np.roll(ring_shaped, shift, axis) for shift in (-1, 1) for axis in (0, 1)]
    )
    assert not (wrong & inner).any()  # less than a pixel off
    assert wrong.sum() < 0.01 * ring_shaped.sum()


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_region_can_be_written(form: RegionForm) -> None:
    assert written(Region(np.zeros((0, 0), np.bool_), 3, 2, (20, 30)), form)


def test_an_outline_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "MOST_STEPS", 100)
    chequered = np.indices((20, 20)).sum(0) % 2 == 0
    with pytest.raises(ValueError, check=sentence):
        contours(chequered)
