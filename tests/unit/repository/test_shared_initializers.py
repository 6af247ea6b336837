from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.errors import ModelLoadError
from service.repository.onnx_file.analysis import shared_initializers
from service.repository.onnx_file.reader import read_onnx
from tests.sentences import sentence

TABLE = np.arange(2**20, dtype=np.int8).reshape(-1, 16)
LOOK_UP = helper.make_node("Gather", ["table", "ids"], ["rows"])
IDS = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
ROWS = helper.make_tensor_value_info("rows", TensorProto.INT8, ["n", 16])


def graph(
    folder: Path,
    *nodes: onnx.NodeProto,
    table: np.ndarray = TABLE,
    inputs: tuple = (IDS,),
    outputs: tuple = (ROWS,),
) -> Path:
    made = helper.make_graph(
        [LOOK_UP, *nodes], "g", inputs, outputs, [numpy_helper.from_array(table, "table")]
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(made), path)
    return path


def test_a_large_table_is_found_where_it_lies(tmp_path: Path) -> None:
    path = graph(tmp_path)
    (table,) = shared_initializers(read_onnx(path))
    assert (table.name, table.dtype, table.shape) == ("table", "int8", TABLE.shape)
    assert path.read_bytes()[table.offset :].startswith(TABLE.tobytes())


def test_a_small_table_is_not_worth_it(tmp_path: Path) -> None:
    assert not shared_initializers(read_onnx(graph(tmp_path, table=TABLE[:-100])))


def test_a_table_that_is_computed_with_stays_with_the_session(tmp_path: Path) -> None:
    assert not shared_initializers(
        read_onnx(graph(tmp_path, helper.make_node("Abs", ["table"], ["y"])))
    )


def test_a_table_that_is_taken_as_indices_stays_with_the_session(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["rows", "table"], ["y"])
    assert not shared_initializers(read_onnx(graph(tmp_path, node)))


def test_a_table_that_a_nested_graph_takes_stays_with_the_session(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Abs", ["table"], ["y"])],
        "inner",
        [],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
    )
    node = helper.make_node("If", ["which"], ["z"], then_branch=inner, else_branch=inner)
    assert not shared_initializers(read_onnx(graph(tmp_path, node)))


@pytest.mark.parametrize("place", ["inputs", "outputs"])
def test_a_table_that_is_seen_outside_stays_with_the_session(tmp_path: Path, place: str) -> None:
    seen = helper.make_tensor_value_info("table", TensorProto.INT8, TABLE.shape)
    usual = {"inputs": (IDS,), "outputs": (ROWS,)}
    path = graph(tmp_path, **{**usual, place: (*usual[place], seen)})
    assert not shared_initializers(read_onnx(path))


def test_a_table_in_another_file_is_left_to_onnxruntime(tmp_path: Path) -> None:
    path = graph(tmp_path)
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=1024
    )
    assert not shared_initializers(read_onnx(path))


def test_only_a_table_that_begins_where_its_type_may_is_found(tmp_path: Path) -> None:
    found = set()
    for length in range(4):  # of a name, which comes before the table
        model = onnx.load(graph(tmp_path, table=TABLE.view(np.float32)))
        model.producer_name = "x" * length
        path = tmp_path / f"{length}.onnx"
        onnx.save(model, path)
        found |= {table.offset % 4 for table in shared_initializers(read_onnx(path))}
    assert found == {0}


def test_a_model_without_a_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x09")
    with pytest.raises(ModelLoadError, check=sentence):
        shared_initializers(read_onnx(path))
