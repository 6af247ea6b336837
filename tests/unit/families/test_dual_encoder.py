"""Texts and images in one space."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service import tasks
from service.errors import InvalidInputError
from service.families.family import Opened
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import Embedding, EmbedItem, Text
from service.types import Sessions
from tests.sentences import sentence
from tests.unit.families.cases import CASES, IMAGES, TEXTS, open_case
from tests.unit.families.sessions import NumpySession

SESSIONS = CASES["dual_encoder"].sessions


@pytest.fixture
def family(tmp_path: Path) -> Opened[EmbedItem, Embedding]:
    return open_case("dual_encoder", tmp_path)


def embedded(
    family: Opened[EmbedItem, Embedding], sessions: Sessions, items: list[EmbedItem]
) -> list[NDArray[Any]]:
    results = family.model.infer(sessions, [family.processor.preprocess(item) for item in items])
    pairs = zip(results, items, strict=True)
    return [family.processor.postprocess(result, item).vector for result, item in pairs]


def test_vectors_have_unit_length(family: Opened[EmbedItem, Embedding]) -> None:
    for items in ([EmbedItem(Text(t)) for t in TEXTS], [EmbedItem(tasks.Image(i)) for i in IMAGES]):
        for vector in embedded(family, SESSIONS(), items):
            assert vector.dtype == np.float32
            assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_a_vector_of_any_length_gives_no_nonsense(
    family: Opened[EmbedItem, Embedding], scale: float
) -> None:
    output = np.float32([[3, 4]]) * np.float32(scale)
    sessions = {"text": NumpySession(lambda _: {"text_embeds": output})}
    (vector,) = embedded(family, sessions, [EmbedItem(Text("one"))])
    expected = [0, 0] if scale == 0 else [0.6, 0.8]
    np.testing.assert_allclose(vector, expected, rtol=1e-6)


def test_a_prompt_that_a_model_does_not_have_is_refused(
    family: Opened[EmbedItem, Embedding],
) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        family.processor.preprocess(EmbedItem(Text("one"), "query"))


def test_each_lane_runs_its_own_tower(family: Opened[EmbedItem, Embedding]) -> None:
    sessions = SESSIONS()
    embedded(family, sessions, [EmbedItem(Text("one"))])
    assert (len(sessions["text"].fed), len(sessions["image"].fed)) == (1, 0)
    embedded(family, sessions, [EmbedItem(tasks.Image(IMAGES[0]))])
    assert (len(sessions["text"].fed), len(sessions["image"].fed)) == (1, 1)


def test_a_vector_does_not_keep_its_whole_batch_alive(family: Opened[EmbedItem, Embedding]) -> None:
    vectors = embedded(family, SESSIONS(), [EmbedItem(Text(text)) for text in TEXTS])
    assert all(vector.base is None for vector in vectors)


@pytest.mark.looptime(False)
def test_a_real_graph_answers_as_it_should(
    family: Opened[EmbedItem, Embedding], tmp_path: Path
) -> None:
    """The graph counts tokens and unmasked places: (T of the batch, tokens of the text)."""
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["mask", "axis"], ["tokens"], keepdims=1),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axis"], ["total"], keepdims=1),
        helper.make_node("Concat", ["tokens", "total"], ["text_embeds"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "T"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["B", 2])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "text.onnx")
    sessions = {"text": OrtSession(tmp_path / "text.onnx", Device("cpu"), 1)}
    vectors = embedded(family, sessions, [EmbedItem(Text("one")), EmbedItem(Text("one two two"))])
    for vector, ids in zip(vectors, ([2, 4, 3], [2, 4, 5, 5, 3]), strict=True):
        expected = np.array([len(ids), sum(ids)])
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), rtol=1e-6)
