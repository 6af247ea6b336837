"""int8 graphs stay close to fp32 and give an item the same answer in every batch."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from models.graphs.files import export_graph, save_graph  # noqa: E402
from models.graphs.quantise import (  # noqa: E402
    quantise_embeddings,
    quantise_weights,
)
from models.graphs.static import quantise_statically  # noqa: E402
from models.starters.text_encoder import TextEncoder, TextEncoderShape  # noqa: E402
from tests.exact_session import exact_session  # noqa: E402
from tests.sentences import sentence  # noqa: E402

SHAPE = TextEncoderShape(80, max_length=16, embedding=32, width=64, layers=2, heads=2)
AXES = {0: "batch", 1: "sequence"}


@pytest.fixture(scope="module")
def text_graph() -> ModelProto:
    torch.manual_seed(0)
    ids = torch.full((2, 5), 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return export_graph(TextEncoder(SHAPE), inputs, ["vector"], {name: AXES for name in inputs})


def session_of(model: ModelProto, folder: Path) -> ort.InferenceSession:
    save_graph(model, folder / "graph.onnx")
    return exact_session(folder / "graph.onnx")


def padded(*rows: list[int]) -> dict[str, np.ndarray]:
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows])
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


ROW = [2, 17, 33, 41, 3]
NEIGHBOURS = ([2, *range(5, 18), 3], [2, 79, 79, 79, 3], [2, 3])


def test_weight_only_int8_is_close_to_fp32(text_graph, tmp_path):
    feeds = padded(ROW, *NEIGHBOURS)
    expected = session_of(text_graph, tmp_path).run(None, feeds)[0]
    answers = session_of(quantise_weights(text_graph), tmp_path).run(None, feeds)[0]
    assert 0 < np.abs(answers - expected).max() < 0.05 * np.abs(expected).max()


def test_weight_only_int8_does_not_look_at_the_neighbours(text_graph, tmp_path):
    session = session_of(quantise_embeddings(quantise_weights(text_graph)), tmp_path)
    alone = session.run(None, padded(ROW))[0][0]
    for neighbour in NEIGHBOURS:
        together = session.run(None, padded(ROW, neighbour))[0][0]
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_int8_embeddings_are_close_and_a_quarter_of_the_size(text_graph, tmp_path):
    small = quantise_embeddings(text_graph)
    tables = [w for w in small.graph.initializer if list(w.dims) == [SHAPE.vocabulary, 32]]
    assert [table.data_type for table in tables] == [TensorProto.INT8]
    feeds = padded(ROW, *NEIGHBOURS)
    expected = session_of(text_graph, tmp_path).run(None, feeds)[0]
    answers = session_of(small, tmp_path).run(None, feeds)[0]
    assert 0 < np.abs(answers - expected).max() < 0.05 * np.abs(expected).max()


def test_a_row_of_zeros_in_an_embedding_stays_zero(tmp_path):
    table = np.array([[0, 0], [3, -6]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rows = session_of(quantise_embeddings(model), tmp_path).run(None, {"ids": np.array([1, 0])})[0]
    np.testing.assert_allclose(rows, table[[1, 0]], atol=0.03)
    assert not rows[1].any()


def test_a_graph_without_constant_weights_is_refused():
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(ValueError, check=sentence):
        quantise_weights(model)


def test_static_int8_is_close_and_does_not_look_at_the_neighbours(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(72, 5),
    )
    graph = export_graph(
        network, {"images": torch.zeros(2, 1, 8, 8)}, ["logits"], {"images": {0: "batch"}}
    )
    generator = np.random.default_rng(0)
    batches = [{"images": generator.normal(size=(16, 1, 8, 8)).astype(np.float32)} for _ in "abcd"]
    session = session_of(quantise_statically(graph, batches), tmp_path)
    images = batches[0]["images"]
    answers = session.run(None, {"images": images})[0]
    expected = session_of(graph, tmp_path).run(None, {"images": images})[0]
    assert 0 < np.abs(answers - expected).max() < 0.1 * np.abs(expected).max()
    images[1:] *= 1000  # huge neighbours
    np.testing.assert_array_equal(session.run(None, {"images": images})[0][0], answers[0])
