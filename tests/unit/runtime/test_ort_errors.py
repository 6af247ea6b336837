from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import InferenceError, ModelLoadError
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from tests.sentences import sentence
from tests.words import reader


def session(folder: Path, model: onnx.ModelProto) -> OrtSession:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return OrtSession(path, Device("cpu"), 1)


def ids(*numbers: int, dtype: type = np.int64) -> dict[str, np.ndarray]:
    row = np.array([numbers], dtype)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}


def test_an_id_beyond_a_table_is_said_with_the_size_of_the_table(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, check=sentence):
        session(tmp_path, reader()).run(ids(1, 9))


def test_a_feed_of_another_type_is_said(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, check=sentence):
        session(tmp_path, reader()).run(ids(1, dtype=np.float32))


def test_what_no_row_of_the_table_knows_is_said_in_a_line_without_paths(tmp_path: Path) -> None:
    model = reader()
    model.graph.node[0].input[0] = "absent"
    with pytest.raises(ModelLoadError) as refused:
        session(tmp_path, model)
    said = str(refused.value)
    assert said.startswith("model.onnx cannot be loaded: Invalid model. Node input 'absent'")
    assert str(tmp_path) not in said
    assert "\n" not in said
