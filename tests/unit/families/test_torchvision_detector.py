"""Objects that the graph itself has finished: boxes, labels, scores and masks."""

from pathlib import Path
from typing import Any

import pytest

from service import tasks
from service.errors import InferenceError, InvalidInputError, ModelLoadError
from service.families import FAMILIES
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.tasks import Detections, DetectItem
from service.transforms.vision.regions import mask_of
from service.types import TensorSpec
from tests.sentences import sentence
from tests.unit.families.cases import drawing
from tests.unit.families.sessions import Arrays, NumpySession, object_session

LABELS = ["background", "red", "green"]
RED, GREEN = (8, 8, 32, 24), (40, 8, 56, 32)
PICTURE = drawing((64, 48), RED, GREEN)
INPUT = {"image": TensorSpec("float32", (3, None, None))}


def opened(**parameters: Any) -> Opened[Any, Any]:
    entry = FAMILIES["torchvision_detector"]
    said = {"labels": LABELS, "masks": True, "processing": {"resize": "none"}, **parameters}
    return entry.open(Path(), read_parameters(said, entry.parameters))


def found(session: NumpySession, item: DetectItem, **parameters: Any) -> Detections:
    family = opened(**parameters)
    (result,) = family.model.infer({"model": session}, [family.processor.preprocess(item)])
    answer = family.processor.postprocess(result, item)
    assert isinstance(answer, Detections)
    return answer


def area(answer: Detections, number: int) -> int:
    mask = answer.objects[number].mask
    assert mask is not None
    assert mask.rle is not None
    return int(mask_of(mask.rle.encode(), (answer.height, answer.width)).sum())


def test_objects_are_what_the_graph_gives() -> None:
    answer = found(object_session(), DetectItem(tasks.Image(PICTURE)))
    red, green = answer.objects
    assert (red.label, red.box, red.score) == ("red", RED, pytest.approx(0.9))
    assert (green.label, green.box, green.score) == ("green", GREEN, pytest.approx(0.8))
    assert [area(answer, number) for number in (0, 1)] == [24 * 16, 16 * 24]


def test_boxes_and_masks_go_back_to_an_image_that_was_resized() -> None:
    half = {"resize": "letterbox", "size": [32, 32], "resample": "nearest"}
    answer = found(object_session(), DetectItem(tasks.Image(PICTURE)), processing=half)
    assert answer.objects[0].box == RED
    assert answer.objects[1].box == GREEN
    assert area(answer, 0) == pytest.approx(24 * 16, rel=0.15)


def test_an_item_chooses_by_score_number_overlap_and_masks() -> None:
    picture = tasks.Image(PICTURE)
    every = found(object_session(), DetectItem(picture, threshold=0.2, masks="none"))
    assert [one.label for one in every.objects] == ["red", "green", "green"]
    assert all(one.mask is None for one in every.objects)
    best = found(object_session(), DetectItem(picture, threshold=0.2, iou=0.5))
    assert [one.label for one in best.objects] == ["red", "green"]
    one = found(object_session(), DetectItem(picture, max_detections=1))
    assert [one.label for one in one.objects] == ["red"]


def test_a_mask_is_where_its_probability_is_above_the_threshold() -> None:
    item = DetectItem(tasks.Image(PICTURE))
    assert found(object_session(), item, mask_threshold=0.75).objects == ()
    plain = found(object_session(), item, masks=False)
    assert len(plain.objects) == 2
    with pytest.raises(InvalidInputError, check=sentence):
        found(object_session(), DetectItem(tasks.Image(PICTURE), masks="rle"), masks=False)


def test_an_image_with_nothing_has_no_objects() -> None:
    assert found(object_session(), DetectItem(tasks.Image(drawing((30, 20))))).objects == ()


def test_a_batched_input_takes_one_image_at_a_time() -> None:
    def compute(feeds: Arrays) -> Arrays:
        return object_session().run({"image": feeds["image"][0]})

    session = NumpySession(compute, {"image": TensorSpec("float32", (1, 3, None, None))})
    assert len(found(session, DetectItem(tasks.Image(PICTURE))).objects) == 2


def test_outputs_of_other_names_are_refused() -> None:
    problem = opened().traits.head_problem
    assert problem is not None
    specs = {name: TensorSpec("float32", (None,)) for name in ("boxes", "labels", "6572")}
    said = problem({"model": specs})
    assert said is not None
    assert "no scores and no masks" in said
    assert problem({"model": {**specs, "scores": specs["boxes"], "masks": specs["boxes"]}}) is None


@pytest.mark.parametrize("change", ["label", "masks", "inputs", "outputs"])
def test_what_does_not_fit_is_refused(change: str) -> None:
    def compute(feeds: Arrays) -> Arrays:
        outputs = dict(object_session().run({"image": feeds["image"]}))
        if change == "label":
            outputs["labels"] = outputs["labels"] + 2
        if change == "masks":
            outputs["masks"] = outputs["masks"][..., :28, :28]
        if change == "outputs":
            del outputs["boxes"]
        return outputs

    inputs = {**INPUT, "text": INPUT["image"]} if change == "inputs" else INPUT
    with pytest.raises(InferenceError, check=sentence):
        found(NumpySession(compute, inputs), DetectItem(tasks.Image(PICTURE)))


def test_parameters_are_checked() -> None:
    for wrong in (
        {"mask_threshold": 0.0},
        {"processing": {"size": [32, 32], "crop": [16, 16]}},
        {"labels": []},
    ):
        with pytest.raises(ModelLoadError, check=sentence):
            opened(**wrong)
    assert opened(masks=False).traits.finds == frozenset()
