"""Detectors whose head model.toml declares, loaded from files and asked through the pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service import tasks
from service.errors import ModelLoadError
from service.tasks import ClassifyItem, DetectItem
from tests.exports.serving import answers, serving
from tests.sentences import sentence
from tests.spoiling import edit, graph
from tests.unit.transforms.images import encoded
from tests.words import add_words

pytestmark = pytest.mark.looptime(False)  # real threads

SIDE, STRIDES = 64, (8, 16, 32)
LEVELS = [[f"score_{s}", f"box_{s}"] for s in STRIDES]
MANIFEST = """
task = "detect"
family = "detector"
[parameters]
labels = ["red"]
score_threshold = 0.5
[parameters.processing]
resize = "stretch"
size = [64, 64]
channels_last = true
[parameters.head]
strides = {strides}
levels = {levels}
scores_at = 0
box_at = 1
boxes = "distances"
point = "centre"
{more}
"""


def model(batch: int | str = "batch", gain: float = 1.0, silent: int = 0) -> onnx.ModelProto:
    """For each cell: the mean of its red as score, and half a cell to each side as its box.

    Args:
        batch: the batch axis.
        gain: what scores are multiplied by.
        silent: the stride whose scores are zero.
    """
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Slice", ["planes", "zero", "one", "one"], ["red"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([0, -1, 1]), "list"),
        numpy_helper.from_array(np.array([0, 0, 0], np.float32), "nothing"),
    ]
    outputs = []
    for stride in STRIDES:
        amount, count = 0.0 if stride == silent else gain, (SIDE // stride) ** 2
        half = np.full((1, 1, 4), 0.5, np.float32)
        constants += [
            numpy_helper.from_array(np.float32(amount), f"gain_{stride}"),
            numpy_helper.from_array(half, f"half_{stride}"),
        ]
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["red"], [f"mean_{stride}"], **pool),
            helper.make_node("Reshape", [f"mean_{stride}", "list"], [f"rows_{stride}"]),
            helper.make_node("Mul", [f"rows_{stride}", f"gain_{stride}"], [f"score_{stride}"]),
            helper.make_node("Mul", [f"rows_{stride}", "none"], [f"empty_{stride}"]),
            helper.make_node("Add", [f"empty_{stride}", f"half_{stride}"], [f"box_{stride}"]),
        ]
        for name, numbers in (("score", 1), ("box", 4)):
            shape = [batch, count, numbers]
            outputs.append(
                helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, shape)
            )
    constants.append(numpy_helper.from_array(np.float32(0), "none"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, SIDE, SIDE, 3])
    graph = helper.make_graph(nodes, "g", [image], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(
    folder: Path, strides: Any = STRIDES, levels: Any = LEVELS, more: str = "", **said: Any
) -> Path:
    folder.mkdir()
    onnx.save(model(**said), folder / "some.onnx")
    text = MANIFEST.format(strides=list(strides), levels=levels, more=more)
    (folder / "model.toml").write_text(text.replace("'", '"'))
    return folder


def painted(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right, 0] = 255
    return pixels


@pytest.mark.parametrize("batch", ["batch", 1])
async def test_every_level_of_a_declared_head_is_read(batch: int | str, tmp_path: Path) -> None:
    boxes = [(8, 16, 16, 24), (32, 0, 48, 16), (32, 32, 64, 64)]
    items = [
        DetectItem(tasks.Image(encoded(Image.fromarray(painted(box)))), threshold=0.99)
        for box in boxes
    ]
    for found in await answers(write(tmp_path / "m", batch=batch), items):
        # A large red square is that of its own level, and of the smaller cells within it.
        largest = [max(one.objects, key=lambda o: o.box[2] - o.box[0]) for one in found]
        assert [one.box for one in largest] == boxes
        assert [one.score for one in largest] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"strides": (8,), "levels": LEVELS[:1]},
        {"levels": LEVELS[::-1]},
        {"more": 'activation = "sigmoid"'},
        {"gain": 40.0},
        {"gain": -1.0},
        {"silent": 16},
        {"gain": 0.0},
    ],
)
async def test_a_head_that_is_not_the_graphs_is_refused_at_load(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = write(tmp_path / "m", **changes)
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(folder):
            pass


async def test_a_quantised_head_may_round_a_level_to_zero(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", silent=16)
    (folder / "some.onnx").rename(folder / "some_int8.onnx")
    async with serving(folder) as loaded:
        assert loaded.files.precision == "int8"


async def test_channels_in_another_place_are_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    edit("model.toml", "channels_last = true", "")(folder)
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(folder):
            pass


def calls_it_tokens(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "tokens"
    for node in model.graph.node:
        node.input[:] = ["tokens" if name == "input_ids" else name for name in node.input]


async def test_inputs_may_have_other_names(tmp_path: Path) -> None:
    folder = add_words(tmp_path)
    items = [ClassifyItem(tasks.Text(text)) for text in ("a b c", "c")]
    wanted = await answers(folder.parent, items)
    graph(calls_it_tokens)(folder)
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(folder.parent):
            pass
    text = (folder / "model.toml").read_text()
    (folder / "model.toml").write_text('inputs = { input_ids = "tokens" }\n' + text)
    assert await answers(folder.parent, items) == wanted
    (folder / "model.toml").write_text('inputs = { input_ids = "words" }\n' + text)
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(folder.parent):
            pass
