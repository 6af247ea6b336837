"""Graphs say exactly what the PyTorch module said, however their weights are stored."""

import functools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import onnxruntime as ort  # noqa: E402
from onnx import ModelProto, TensorProto  # noqa: E402

from models.graphs.files import (  # noqa: E402
    export_graph,
    fold_batch_norms,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.starters.news_topics.model import NewsTopics  # noqa: E402
from models.starters.text_encoder import TextEncoderShape  # noqa: E402
from tests.sentences import sentence  # noqa: E402

ROUNDED, NOT_ROUNDED = True, False
AXES = {0: "batch", 1: "sequence"}
SHAPE = TextEncoderShape(60, max_length=16, embedding=8, width=32, layers=1, heads=2)


@functools.cache
def classifier(rounded: bool) -> NewsTopics:
    torch.manual_seed(0)
    model = NewsTopics(SHAPE).eval()
    if rounded:
        round_to_fp16(model)
    return model


@functools.cache
def graph_of(model: NewsTopics) -> ModelProto:
    ids = torch.full((2, 5), 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return export_graph(model, inputs, ["logits"], {name: AXES for name in inputs})


def run(model: ModelProto, folder: Path, **feeds: np.ndarray) -> np.ndarray:
    save_graph(model, folder / "graph.onnx")
    session = ort.InferenceSession(folder / "graph.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def some_texts(rows: int, length: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(1).integers(5, 60, (rows, length))
    mask = np.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 16), (3, 7), (9, 2)])
def test_an_exported_graph_answers_as_the_module_at_any_batch_and_length(rows, length, tmp_path):
    model = classifier(ROUNDED)
    feeds = some_texts(rows, length)
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array) for array in feeds.values())).numpy()
    np.testing.assert_allclose(run(graph_of(model), tmp_path, **feeds), expected, atol=2e-6)


def test_storing_weights_as_fp16_changes_no_bit_of_any_answer_and_halves_the_file(tmp_path):
    graph = graph_of(classifier(ROUNDED))
    stored = store_weights_as_fp16(graph)
    feeds = some_texts(4, 9)
    np.testing.assert_array_equal(run(stored, tmp_path, **feeds), run(graph, tmp_path, **feeds))
    weights = sum(np.prod(w.dims) for w in graph.graph.initializer if w.data_type == 1)
    assert graph.ByteSize() - stored.ByteSize() > weights  # nearly 2 bytes saved of each 4


def test_storing_refuses_weights_that_fp16_would_change():
    with pytest.raises(ValueError, check=sentence):
        store_weights_as_fp16(graph_of(classifier(NOT_ROUNDED)))


def test_inexact_storing_leaves_alone_what_fp16_would_change(tmp_path):
    graph = graph_of(classifier(NOT_ROUNDED))
    stored = store_weights_as_fp16(graph, exact=False)
    feeds = some_texts(2, 4)
    np.testing.assert_array_equal(run(stored, tmp_path, **feeds), run(graph, tmp_path, **feeds))


def test_the_original_graph_is_not_touched_by_storing():
    graph = graph_of(classifier(ROUNDED))
    before = graph.SerializeToString()
    store_weights_as_fp16(graph)
    assert graph.SerializeToString() == before


def test_rounding_refuses_a_weight_beyond_fp16():
    layer = torch.nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1e6)
    with pytest.raises(ValueError, check=sentence):
        round_to_fp16(layer)


def test_rounding_leaves_integer_buffers_alone():
    norm = torch.nn.BatchNorm2d(2)
    norm.num_batches_tracked.fill_(70_001)
    round_to_fp16(norm)
    assert norm.num_batches_tracked == 70_001


def test_folded_batch_norms_give_the_same_answers_and_leave_no_norm_behind(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Sequential(torch.nn.Conv2d(4, 2, 1), torch.nn.BatchNorm2d(2)),
    )
    images = torch.randn(6, 1, 5, 5)
    model(images)  # so that the running averages are not those of a new norm
    expected = model.eval()(images).detach()
    fold_batch_norms(model)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
    torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-5)


def test_layers_gone_through_twice_are_stored_once_and_never_transposed_while_running(tmp_path):
    torch.manual_seed(0)
    twice = TextEncoderShape(60, 16, embedding=8, width=128, layers=1, heads=2, passes=2)
    model = NewsTopics(twice).eval()
    graph = graph_of(model)
    weights = {weight.name for weight in graph.graph.initializer}
    transposed = [n for n in graph.graph.node if n.op_type == "Transpose" and n.input[0] in weights]
    assert not transposed
    assert sum(list(weight.dims) == [128, 384] for weight in graph.graph.initializer) == 1
    feeds = some_texts(3, 7)
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array) for array in feeds.values())).numpy()
    np.testing.assert_allclose(run(graph, tmp_path, **feeds), expected, atol=2e-6)


def test_graphs_hold_nothing_of_the_machine_they_were_made_on():
    graph = graph_of(classifier(ROUNDED))
    assert str(Path(__file__).parents[3]).encode() not in graph.SerializeToString()
    assert all(
        weight.data_type in (TensorProto.FLOAT, TensorProto.INT64)
        for weight in graph.graph.initializer
    )
