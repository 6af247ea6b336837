from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from benchmarks.distilbert import Arithmetic, EncoderSize, text_classifier
from benchmarks.graph_builder import GraphBuilder
from tests.exact_session import exact_session

SMALL = EncoderSize(layers=2, width=128, heads=4, inner=256, words=50, positions=16)
IDS = np.array([[2, 7, 9, 3], [2, 48, 40, 3], [2, 11, 12, 3]])


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return exact_session(model.SerializeToString())


def logits(model: ort.InferenceSession, ids: NDArray[Any], used: int | None = None) -> NDArray[Any]:
    mask = np.ones_like(ids)
    mask[:, used or ids.shape[1] :] = 0
    found: NDArray[Any] = model.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return found


@pytest.mark.parametrize("arithmetic", [Arithmetic.ROWS, Arithmetic.BLOCKS, Arithmetic.DYNAMIC])
def test_int8_says_nearly_what_fp32_says(arithmetic: Arithmetic) -> None:
    exact = logits(session(text_classifier(Arithmetic.FP32, SMALL)), IDS)
    rounded = logits(session(text_classifier(arithmetic, SMALL)), IDS)
    assert exact.shape == (3, 4)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("arithmetic", [Arithmetic.FP32, Arithmetic.ROWS, Arithmetic.BLOCKS])
def test_an_answer_does_not_depend_on_neighbours_or_padding(arithmetic: Arithmetic) -> None:
    model = session(text_classifier(arithmetic, SMALL))
    alone = logits(model, IDS[:1])
    np.testing.assert_allclose(logits(model, IDS)[:1], alone, atol=1e-4)
    padded = np.pad(IDS[:1], ((0, 0), (0, 5)))
    np.testing.assert_allclose(logits(model, padded, used=4), alone, atol=1e-4)


def test_dynamic_quantisation_lets_neighbours_in_which_is_why_it_is_not_the_default() -> None:
    model = session(text_classifier(Arithmetic.DYNAMIC, SMALL))
    assert np.abs(logits(model, IDS)[:1] - logits(model, IDS[:1])).max() > 1e-4


def test_rows_multiply_as_matrices_do() -> None:
    graph = GraphBuilder(seed=1)
    matrix = graph.normal((32, 5), 1.0)
    tensor = graph.input("x", onnx.TensorProto.FLOAT, ("rows", 32))
    graph.output(graph.matmul_by_rows(tensor, matrix), "y", ("rows", 5))
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32) * [[1], [100], [0.01], [0]]
    found = session(graph.model()).run(None, {"x": x.astype(np.float32)})[0]
    exact = x @ matrix
    scale = np.abs(exact).max(axis=1, keepdims=True) + 1e-12
    np.testing.assert_allclose(found / scale, exact / scale, atol=0.05)


def test_a_graph_is_the_same_each_time() -> None:
    first, second = (text_classifier(Arithmetic.ROWS, SMALL) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()


def test_the_full_size_is_that_of_distilbert() -> None:
    size = EncoderSize()
    layer = 4 * size.width**2 + 2 * size.width * size.inner
    parameters = size.layers * layer + (size.words + size.positions) * size.width
    assert 65e6 < parameters < 67e6
