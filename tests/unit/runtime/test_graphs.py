"""Tables that the sessions of a graph share."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import ModelLoadError
from service.repository.onnx_file.analysis import shared_initializers
from service.repository.onnx_file.cut import GraphPart
from service.repository.onnx_file.reader import read_onnx
from service.runtime.graphs import SharingGraph
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from tests.sentences import sentence

CPU = Device("cpu")
TABLE = np.arange(2**20, dtype=np.int8).reshape(-1, 16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Neg", ["ids"], ["others"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    rows = helper.make_tensor_value_info("rows", TensorProto.INT8, ["n", 16])
    others = helper.make_tensor_value_info("others", TensorProto.INT64, ["n"])
    table = numpy_helper.from_array(TABLE, "table")
    graph = helper.make_graph(nodes, "g", [ids], [rows, others], [table])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_all_sessions_of_a_graph_read_one_copy_of_its_table(file: Path) -> None:
    graph = SharingGraph.of(file, shared_initializers(read_onnx(file)))
    sessions = [OrtSession(graph, CPU, threads) for threads in (1, 2)]
    changed = TABLE.copy()
    changed[0] = 7
    graph.tables["table"].update_inplace(changed)  # which shows who reads it
    for session in sessions:
        rows = session.run({"ids": np.array([0, 1])})["rows"]
        assert rows.tolist() == [[7] * 16, TABLE[1].tolist()]


def test_a_file_that_is_cut_short_later_changes_nothing(file: Path) -> None:
    session = OrtSession(SharingGraph.of(file, shared_initializers(read_onnx(file))), CPU, 1)
    file.write_bytes(b"")
    last = len(TABLE) - 1
    assert session.run({"ids": np.array([last])})["rows"][0].tolist() == TABLE[last].tolist()


def test_a_part_of_a_graph_need_not_have_the_table(file: Path) -> None:
    part = SharingGraph.of(GraphPart(file, "others"), shared_initializers(read_onnx(file)))
    answer = OrtSession(part, CPU, threads=1).run({"ids": np.array([3])})
    assert answer["others"].tolist() == [-3]


def test_a_part_of_a_graph_shares_the_table_too(file: Path) -> None:
    part = SharingGraph.of(GraphPart(file, "rows"), shared_initializers(read_onnx(file)))
    assert OrtSession(part, CPU, 1).run({"ids": np.array([5])})["rows"][0].tolist() == [
        *TABLE[5].tolist()
    ]


def test_a_file_that_is_gone_is_a_load_error_that_names_it(file: Path) -> None:
    tables = shared_initializers(read_onnx(file))
    file.unlink()
    with pytest.raises(ModelLoadError, check=sentence):
        SharingGraph.of(file, tables)
