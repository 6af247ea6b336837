"""Images on their way into graphs that differ in what they ask for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import tasks
from service.errors import InferenceError, LimitExceededError, ModelLoadError
from service.families.detr_detector import DetrDetectorParameters, open_detr_detector
from service.families.image_input import ImageInput, image_input
from service.repository.manifest import read_parameters
from service.tasks import DetectItem
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import TensorSpec
from tests.sentences import sentence
from tests.unit.families.cases import drawing
from tests.unit.families.sessions import SET_INPUTS, NumpySession, set_session

BY_EDGE = {"resize": "shortest_edge", "shortest_edge": 24, "longest_edge": 48}


def images(mixes: bool = False, **recipe: Any) -> ImageInput:
    processor = ImageProcessor(read_parameters(recipe or BY_EDGE, Processing))
    return ImageInput(processor, (255, 255, 255), mixes)


def session(**inputs: TensorSpec) -> NumpySession:
    return NumpySession(lambda feeds: feeds, inputs)


def image(width: int, height: int) -> tasks.Image:
    return tasks.Image(drawing((width, height), (2, 2, width // 2, height - 2)))


def test_images_of_other_sizes_share_no_batch_unless_told() -> None:
    assert images().prepare(image(64, 48), "x").group != images().prepare(image(48, 64), "x").group
    assert images(mixes=True).prepare(image(64, 48), "x").group is None
    assert images(size=[8, 8]).prepare(image(64, 48), "x").group is None


def test_mixed_images_are_padded_to_the_largest_and_masked() -> None:
    works = [images(mixes=True).prepare(image(*size), "x") for size in ((64, 48), (48, 96))]
    feeds = images(mixes=True).feeds_for(session(**SET_INPUTS), works)
    assert feeds["pixel_values"].shape == (2, 3, 48, 32)
    assert feeds["pixel_mask"].dtype == np.int64
    np.testing.assert_array_equal(feeds["pixel_mask"][0, :24, :32], 1)
    assert feeds["pixel_mask"].sum() == 24 * 32 + 48 * 24
    assert (feeds["pixel_values"][0, :, 24:] == 0).all()
    np.testing.assert_array_equal(
        feeds["pixel_values"][1, :, :, :24], works[1].tensors["pixel_values"]
    )


async def test_boxes_of_mixed_images_are_those_of_each_alone() -> None:
    table = {"labels": ["red", "green"], "scores": "softmax", "mix_sizes": True}
    parameters = read_parameters(
        table | {"processing": BY_EDGE | {"resample": "nearest"}}, DetrDetectorParameters
    )
    family = open_detr_detector(Path(), parameters)
    items = [DetectItem(image(*size)) for size in ((64, 48), (48, 96), (96, 48))]
    works = [family.processor.preprocess(item) for item in items]
    together = family.model.infer({"model": set_session()}, works)
    for work, result, item in zip(works, together, items, strict=True):
        (alone,) = family.model.infer({"model": set_session()}, [work])
        (one,) = family.processor.postprocess(result, item).objects
        assert [one] == list(family.processor.postprocess(alone, item).objects)
        assert one.label == "red"


def test_a_mask_of_a_fixed_size_is_all_ones() -> None:
    spec = {"pixel_values": SET_INPUTS["pixel_values"]}
    mask = TensorSpec("bool", (None, 64, 64))
    feeds = images().feeds_for(
        session(**spec, pixel_mask=mask), [images().prepare(image(64, 48), "x")]
    )
    assert feeds["pixel_mask"].shape == (1, 64, 64)
    assert feeds["pixel_mask"].all()


def test_an_image_is_padded_to_what_the_recipe_says() -> None:
    own = images(**BY_EDGE, pad=[48, 48])
    work = own.prepare(image(64, 48), "x")
    assert (work.length, work.group) == (48 * 48, None)
    assert own.feeds_for(session(**SET_INPUTS), [work])["pixel_values"].shape == (1, 3, 48, 48)
    with pytest.raises(LimitExceededError, match="pads"):
        images(**BY_EDGE, pad=[30, 30]).prepare(image(64, 48), "x")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_pixels_are_of_the_type_that_the_graph_takes(dtype: str) -> None:
    spec = TensorSpec(dtype, (None, 3, None, None))
    feeds = images().feeds_for(session(x=spec), [images().prepare(image(64, 48), "x")])
    assert feeds["x"].dtype == dtype


def test_a_graph_without_an_input_for_images_is_found_out() -> None:
    with pytest.raises(InferenceError, check=sentence):
        image_input(session(input_ids=TensorSpec("int64", (None, None))))


@pytest.mark.parametrize(
    "recipe",
    [
        {"resize": "shortest_edge", "shortest_edge": 224, "crop": [224, 224]},
        {"resize": "shortest_edge", "shortest_edge": 224},
        {"resize": "none"},
    ],
)
def test_a_thread_of_an_image_is_not_blown_up(recipe: dict[str, Any]) -> None:
    thin = tasks.Image(drawing((4_000, 1))) if recipe["resize"] != "none" else image(3000, 3000)
    with pytest.raises(LimitExceededError, check=sentence):
        images(**recipe).prepare(thin, "x")


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"size": [0, 1]}, {"resize": "shortest_edge"}, {"size": [2, 2], "rescale": 0.0}):
        with pytest.raises(ModelLoadError, check=sentence):
            read_parameters(wrong, Processing)


@pytest.mark.parametrize("mixes", [False, True])
def test_a_graph_may_take_channels_last(mixes: bool) -> None:
    recipes = [{**BY_EDGE, "channels_last": last} for last in (False, True)]
    first, last = (images(mixes=mixes, **recipe) for recipe in recipes)
    works = [first.prepare(image(*size), "x") for size in ((64, 48), (96, 72))]
    taken = TensorSpec("uint8", (None, None, None, 3))
    fed = last.feeds_for(session(input_1=taken), works)["input_1"]
    expected = first.feeds_for(session(input_1=taken), works)["input_1"]
    assert fed.flags.c_contiguous
    assert fed.dtype == np.uint8
    np.testing.assert_array_equal(fed, expected.transpose(0, 2, 3, 1))
