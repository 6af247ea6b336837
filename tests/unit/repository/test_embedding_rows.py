from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.repository.onnx_file.analysis import embedding_rows
from service.repository.onnx_file.reader import read_onnx


def graph(folder: Path, *nodes: onnx.NodeProto, rows: int = 7) -> Path:
    tables = {
        "table": np.zeros((rows, 2), np.float32),
        "other": np.zeros((3, 2), np.float32),
        "bytes": np.zeros((rows, 2), np.uint8),
        "scale": np.ones((), np.float32),
    }
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in tables.items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(made), path)
    return path


def node(op: str, *names: str) -> onnx.NodeProto:
    return helper.make_node(op, list(names[:-1]), [names[-1]])


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([node("Gather", "table", "input_ids", "y")], id="plainly"),
        pytest.param(
            [node("Cast", "input_ids", "ids"), node("Gather", "table", "ids", "y")], id="cast"
        ),
        pytest.param(
            [
                node("DequantizeLinear", "bytes", "scale", "wide"),
                node("Gather", "wide", "input_ids", "y"),
            ],
            id="from a quantised table",
        ),
        pytest.param(
            [
                node("Gather", "bytes", "input_ids", "q"),
                node("DequantizeLinear", "q", "scale", "y"),
            ],
            id="quantised, row by row",
        ),
    ],
)
def test_the_table_of_the_ids_is_found(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    assert embedding_rows(read_onnx(graph(tmp_path, *nodes))) == 7


def test_tables_that_others_look_up_in_do_not_count(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        node("Gather", "other", "positions", "p"),
        node("Gather", "table", "input_ids", "y"),
    )
    assert embedding_rows(read_onnx(path)) == 7


@pytest.mark.parametrize(
    "made", [node("Cast", "input_ids", "y"), node("Gather", "x", "input_ids", "y")]
)
def test_a_graph_without_a_known_table_has_no_number_of_rows(
    tmp_path: Path, made: onnx.NodeProto
) -> None:
    assert embedding_rows(read_onnx(graph(tmp_path, made))) is None
