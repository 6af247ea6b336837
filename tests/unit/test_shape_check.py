"""What does not fit is said before a session opens: none could, for the opset is too new."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from service.errors import ModelLoadError
from service.families import FAMILIES
from service.registry.checks import check_shapes
from service.registry.opening import open_family
from service.repository.manifest import read_parameters
from service.repository.repository import ModelRepository
from service.types import TensorSpec
from tests.lamps import make_repository
from tests.sentences import sentence
from tests.spoiling import edit, graph, input_of, opset
from tests.words import add_words

PROCESSING = {"resize": "stretch", "size": [8, 8]}
YOLO: dict[str, Any] = {"image_size": 8}
FITTED: dict[str, Any] = {"processing": PROCESSING}
SIGMOID: dict[str, Any] = {"scores": "sigmoid", "processing": PROCESSING}


def check(root: Path, model: str) -> None:
    files = ModelRepository(root).open(model, 1)
    check_shapes(files, open_family(files))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    make_repository(tmp_path)
    add_words(tmp_path)
    for model in ("lamps", "words"):
        graph(opset(99))(tmp_path / model / "1")
    return tmp_path


@pytest.mark.parametrize("model", ["lamps", "words"])
def test_what_fits_passes_whatever_else_is_wrong(model: str, repository: Path) -> None:
    check(repository, model)


@pytest.mark.parametrize(
    ("model", "old", "new"),
    [
        ("words", '"high"]', '"high", "top"]'),
        ("lamps", '"light"]', '"light", "off"]'),
        ("lamps", "[2, 2]", "[4, 4]"),
        ("words", "pad_id = 0", "pad_id = 9"),
    ],
)
def test_what_does_not_fit_is_refused(model: str, old: str, new: str, repository: Path) -> None:
    edit("model.toml", old, new)(repository / model / "1")
    with pytest.raises(ModelLoadError, check=sentence):
        check(repository, model)


def test_a_type_that_is_not_fed_is_refused(repository: Path) -> None:
    graph(input_of(onnx.TensorProto.STRING))(repository / "words" / "1")
    with pytest.raises(ModelLoadError, check=sentence):
        check(repository, "words")


@pytest.mark.parametrize(
    ("name", "parameters", "outputs", "said"),
    [
        ("image_classifier", FITTED, {"logits": (None, 3)}, None),
        ("image_classifier", FITTED, {"scores": (None, None)}, None),
        ("image_classifier", FITTED, {"logits": (1, 4)}, "4 scores for 3 labels"),
        ("image_classifier", FITTED, {"logits": (1, 3, 3)}, "scores of 3 axes"),
        ("image_classifier", FITTED, {"a": (1, 3), "b": (1, 3)}, "no 'logits'"),
        ("detr_detector", SIGMOID, {"logits": (None, None, 3)}, None),
        ("detr_detector", SIGMOID, {"logits": (None, None, None)}, None),
        ("detr_detector", SIGMOID, {"logits": (None, None, 4)}, "must be 3"),
        ("detr_detector", SIGMOID | {"scores": "softmax"}, {"logits": (1, 9, 3)}, "must be 4"),
        ("detector", YOLO, {"output0": (None, 7, 99)}, None),
        ("detector", YOLO, {"output0": (None, None, None)}, None),
        ("detector", YOLO, {"output0": (None, 84, 99)}, "80 scores for 3 labels"),
        ("detector", YOLO | {"layout": "yolov5"}, {"output0": (1, 99, 85)}, "80 scores for 3"),
        ("detector", YOLO | {"layout": "end_to_end"}, {"output0": (1, 300, 6)}, None),
    ],
)
def test_a_head_is_compared_with_its_labels(
    name: str,
    parameters: dict[str, Any],
    outputs: dict[str, tuple[int | None, ...]],
    said: str | None,
    tmp_path: Path,
) -> None:
    entry = FAMILIES[name]
    table = {"labels": ["a", "b", "c"], **parameters}
    family = entry.open(tmp_path, read_parameters(table, entry.parameters, "x"))
    assert family.traits.head_problem is not None
    specs = {output: TensorSpec("float32", shape) for output, shape in outputs.items()}
    problem = family.traits.head_problem({"model": specs})
    assert (problem is None) == (said is None)
    assert said is None or said in str(problem)
