"""Whether a graph's work depends on what its input holds."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.repository.onnx_file.analysis import content_sized
from service.repository.onnx_file.reader import read_onnx

STARTERS = Path(__file__).parents[3] / "models" / "repository"


def saved(path: Path, *nodes: onnx.NodeProto, functions: list[onnx.FunctionProto] = ()) -> Path:  # type: ignore[assignment]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
        [numpy_helper.from_array(np.array([3]), "three")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    onnx.save(model, path)
    return path


node = helper.make_node


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        pytest.param([node("Add", ["x", "three"], ["y"])], set(), id="plain"),
        pytest.param([node("Expand", ["x", "three"], ["y"])], set(), id="a constant size"),
        pytest.param(
            [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"])],
            set(),
            id="as large as the input",
        ),
        pytest.param(
            [node("ReduceSum", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"])],
            {"ConstantOfShape"},
            id="as large as the input says",
        ),
        pytest.param(
            [node("Range", ["a", "b", "a"], ["y"]), node("Mul", ["x", "x"], ["b"])],
            {"Range"},
            id="in another order",
        ),
        pytest.param(
            [node("Expand", ["three", "z"], ["y"]), node("Add", ["x", "three"], ["z"])],
            {"Expand"},
            id="expanded by content",
        ),
        pytest.param([node("NonZero", ["x"], ["y"])], {"NonZero"}, id="non-zero"),
    ],
)
def test_what_sizes_a_graphs_work(
    tmp_path: Path, nodes: list[onnx.NodeProto], found: set[str]
) -> None:
    assert content_sized(read_onnx(saved(tmp_path / "g.onnx", *nodes))) == found


def test_a_loop_in_a_function_is_found(tmp_path: Path) -> None:
    body = helper.make_graph([], "b", [], [])
    inner = [node("Loop", ["x"], ["y"], body=body)]
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "f", ["x"], ["y"], inner, opsets)
    graph = saved(tmp_path / "g.onnx", node("f", ["x"], ["y"], domain="own"), functions=[function])
    assert content_sized(read_onnx(graph)) == {"Loop"}


def test_the_starters_that_run_on_the_event_loop_depend_on_size_only() -> None:
    graphs = [*STARTERS.glob("digits/*/*.onnx"), *STARTERS.glob("news-topics/*/*.onnx")]
    graphs += [*STARTERS.glob("emoji/*/*.onnx"), *STARTERS.glob("cards/*/*.onnx")]
    assert graphs
    assert not any(content_sized(read_onnx(graph)) for graph in graphs)
