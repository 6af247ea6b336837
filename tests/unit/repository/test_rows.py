"""Graphs that quantise over whole batches, rewritten to quantise each row by itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from service.repository.onnx_file.cut import GraphPart
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.rows import RowScaledGraph, can_scale_rows
from service.runtime.graphs import open_exact

RANDOM = np.random.default_rng(7)
WIDTH = 32
FIRST, SECOND = (RANDOM.normal(size=(WIDTH, WIDTH)).astype(np.float32) for _ in range(2))
BIAS = RANDOM.normal(size=WIDTH).astype(np.float32)
ROWS = RANDOM.normal(size=(5, 3, WIDTH)).astype(np.float32) * np.float32(
    [[[1]], [[9]], [[2]], [[1]], [[4]]]
)


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    opset: int,
    outputs: Sequence[str] = ("y",),
    **constants: object,
) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [value("x", TensorProto.FLOAT, ["batch", 3, WIDTH])],
        [value(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def two_layers(path: Path, opset: int) -> Path:
    """Two products of one input, their sum, a nonlinearity and a third product."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "first"], ["a"]),
        node("MatMul", ["x", "second"], ["b"]),
        node("Add", ["a", "b"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("MatMul", ["d", "third"], ["e"]),
        node("Add", ["e", "bias"], ["y"]),
    ]
    return save(path, nodes, opset, first=FIRST, second=SECOND, third=FIRST.T.copy(), bias=BIAS)


def one_thread() -> ort.SessionOptions:
    """Return options without a pool of threads, which takes longer to end than a small graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options


def run(model: Path | bytes, feed: NDArray[np.float32], output: str = "y") -> NDArray[np.float32]:
    source = str(model) if isinstance(model, Path) else model
    session = open_exact(source, one_thread(), ["CPUExecutionProvider"])
    (found,) = session.run([output], {"x": feed})
    return np.asarray(found)


def optimised(path: Path) -> Path:
    """Save the graph as ONNX Runtime fuses it."""
    options = one_thread()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".fused.onnx"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return path.with_suffix(".fused.onnx")


def as_it_is(path: Path) -> Path:
    return path


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("saved", [as_it_is, optimised])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_channel": True},
        {"per_channel": True, "reduce_range": True},
        {"weight_type": QuantType.QUInt8},
    ],
    ids=["tensors", "channels", "reduced", "unsigned"],
)
def test_each_row_is_answered_as_alone_and_as_well_as_before(
    tmp_path: Path, opset: int, saved: Callable[[Path], Path], options: dict[str, object]
) -> None:
    fp32 = two_layers(tmp_path / "fp32.onnx", opset)
    quantize_dynamic(fp32, tmp_path / "int8.onnx", **options)  # type: ignore[arg-type]
    graph = saved(tmp_path / "int8.onnx")
    assert can_scale_rows(read_onnx(graph))
    made = RowScaledGraph(graph).content()

    right, together = run(fp32, ROWS), run(made, ROWS)
    alone = np.concatenate([run(made, row[None]) for row in ROWS])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)
    before = np.concatenate([run(graph, row[None]) for row in ROWS])
    assert np.abs(together - right).mean() <= 1.2 * np.abs(before - right).mean()
    assert np.abs(run(graph, ROWS) - before).max() > 1e-2  # before, neighbours counted


def test_only_what_an_output_needs_is_rewritten(tmp_path: Path) -> None:
    fp32 = save(
        tmp_path / "fp32.onnx",
        [
            helper.make_node("MatMul", ["x", "first"], ["y"]),
            helper.make_node("MatMul", ["x", "second"], ["z"]),
        ],
        17,
        ["y", "z"],
        first=FIRST,
        second=SECOND,
    )
    quantize_dynamic(fp32, tmp_path / "int8.onnx")
    graph = tmp_path / "int8.onnx"
    made = RowScaledGraph(graph, GraphPart(graph, "z")).content()
    (node,) = (n for n in onnx.load_from_string(made).graph.node if "MatMul" in n.op_type)
    assert [n.name for n in onnx.load_from_string(made).graph.output] == ["z"]
    assert node.op_type == "MatMulIntegerToFloat"
    np.testing.assert_allclose(run(made, ROWS, "z"), run(fp32, ROWS, "z"), atol=2.0)


def test_values_of_zero_stay_zero(tmp_path: Path) -> None:
    quantize_dynamic(two_layers(tmp_path / "fp32.onnx", 17), tmp_path / "int8.onnx")
    made = RowScaledGraph(tmp_path / "int8.onnx").content()
    nothing = np.zeros((1, 3, WIDTH), np.float32)
    np.testing.assert_array_equal(run(made, nothing), np.broadcast_to(BIAS, (1, 3, WIDTH)))


def quantised(*more: NodeProto) -> list[NodeProto]:
    return [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]), *more]


PRODUCT = helper.make_node("MatMulInteger", ["q", "weights", "zero"], ["wide"])
CAST = helper.make_node("Cast", ["wide"], ["float"], to=TensorProto.FLOAT)
BOTH = helper.make_node("Mul", ["scale", "weights_scale"], ["both"])
OTHER_FORMS = {
    "one scale": quantised(PRODUCT, CAST, helper.make_node("Mul", ["float", "scale"], ["y"])),
    "read elsewhere": quantised(
        PRODUCT,
        CAST,
        BOTH,
        helper.make_node("Mul", ["float", "both"], ["made"]),
        helper.make_node("Add", ["made", "scale"], ["y"]),
    ),
    "sum of integers": quantised(
        PRODUCT,
        helper.make_node("Add", ["wide", "wide"], ["twice"]),
        helper.make_node("Cast", ["twice"], ["float"], to=TensorProto.FLOAT),
        BOTH,
        helper.make_node("Mul", ["float", "both"], ["y"]),
    ),
    "no product": quantised(
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ),
    "weights that are computed": quantised(
        helper.make_node("Transpose", ["weights"], ["turned"]),
        helper.make_node("MatMulInteger", ["q", "turned", "zero"], ["wide"]),
        CAST,
        BOTH,
        helper.make_node("Mul", ["float", "both"], ["y"]),
    ),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_another_form_is_left_as_it_is(tmp_path: Path, form: str) -> None:
    weights = RANDOM.integers(-100, 100, (WIDTH, WIDTH)).astype(np.int8)
    constants = {"weights": weights, "weights_scale": np.float32(0.1)}
    path = save(tmp_path / "model.onnx", OTHER_FORMS[form], 17, **constants)
    assert not can_scale_rows(read_onnx(path))


def test_older_operators_are_left_as_they_are(tmp_path: Path) -> None:
    quantize_dynamic(two_layers(tmp_path / "fp32.onnx", 11), tmp_path / "int8.onnx")
    assert not can_scale_rows(read_onnx(tmp_path / "int8.onnx"))


def test_an_output_of_the_graph_is_not_taken_away(tmp_path: Path) -> None:
    nodes = quantised(PRODUCT, CAST, BOTH, helper.make_node("Mul", ["float", "both"], ["y"]))
    weights = RANDOM.integers(-100, 100, (WIDTH, WIDTH)).astype(np.int8)
    constants = {"weights": weights, "weights_scale": np.float32(0.1)}
    assert can_scale_rows(read_onnx(save(tmp_path / "a.onnx", nodes, 17, **constants)))
    kept = save(tmp_path / "b.onnx", nodes, 17, ["y", "float"], **constants)
    assert not can_scale_rows(read_onnx(kept))
