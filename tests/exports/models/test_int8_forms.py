"""Forms of int8: what each costs and what it depends on is what is said of it."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

from models import compare_int8
from models.graphs.files import save_graph, store_weights_as_fp16
from models.graphs.int8_forms import (
    DYNAMIC,
    FORMS,
    FP32,
    in_form,
    quantise_by_rows,
    weights_as_fp32,
)
from tests.exact_session import exact_session
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)

STARTER = Path("models/repository/news-topics/1/model.onnx")
BY_ROWS = "scales by row"
ROW = [2, 170, 333, 414, 9, 3]
NEIGHBOURS = ([2, 7000, 7000, 29_999, 12_345, 3], [2, *range(500, 504), 3])


@pytest.fixture(scope="module")
def starter() -> onnx.ModelProto:
    return onnx.load(STARTER)


def logits(model: onnx.ModelProto, folder: Path, *rows: list[int]) -> np.ndarray:
    save_graph(model, folder / "graph.onnx")
    session = exact_session(folder / "graph.onnx")
    ids = np.array(rows)
    return session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def test_weights_stored_in_half_come_back_as_they_were(starter: onnx.ModelProto, tmp_path: Path):
    plain = weights_as_fp32(starter)
    assert onnx.TensorProto.FLOAT16 not in {one.data_type for one in plain.graph.initializer}
    again = store_weights_as_fp16(plain)
    assert again.ByteSize() == pytest.approx(starter.ByteSize(), rel=0.01)
    np.testing.assert_array_equal(logits(plain, tmp_path, ROW), logits(starter, tmp_path, ROW))


@pytest.mark.parametrize("form", [name for name in FORMS if name != FP32])
def test_each_form_is_close_to_fp32_and_only_the_dynamic_one_looks_at_neighbours(
    form: str, starter: onnx.ModelProto, tmp_path: Path
):
    made = in_form(starter, form)
    exact, given = logits(starter, tmp_path, ROW), logits(made, tmp_path, ROW)
    # Ids at random mean nothing to a calibrated model: its logits are near zero.
    off = np.abs(given - exact).max() / max(1.0, np.abs(exact).max())
    assert 0 < off < (0.15 if "4 bits" in form else 0.1)
    together = logits(made, tmp_path, ROW, *NEIGHBOURS)[:1]
    moved = np.abs(together - given).max()
    assert moved > 1e-3 if form == DYNAMIC else moved < 1e-5


def test_products_that_are_named_stay_in_fp32(starter: onnx.ModelProto):
    plain = weights_as_fp32(starter)
    matrices = {one.name for one in plain.graph.initializer if len(one.dims) == 2}
    names = [
        node.name
        for node in plain.graph.node
        if node.op_type == "MatMul" and node.input[1] in matrices
    ]

    def left(excluded: list[str]) -> int:
        nodes = quantise_by_rows(plain, excluded=excluded).graph.node
        return sum(node.op_type == "MatMulIntegerToFloat" for node in nodes)

    assert left([]) == len(names)
    assert left(names[:5]) == len(names) - 5
    with pytest.raises(ValueError, check=sentence):
        left(names)


@pytest.mark.parametrize("form", [BY_ROWS, DYNAMIC])
def test_what_a_graph_within_the_graph_reads_is_made_before_it(form: str, tmp_path: Path):
    step = onnx.load("models/repository/zh-en/1/step.onnx")
    assert any(node.op_type == "If" for node in step.graph.node)
    save_graph(in_form(step, form), tmp_path / "step.onnx")  # checked
    session = exact_session(tmp_path / "step.onnx")
    assert [one.name for one in session.get_outputs()] == [one.name for one in step.graph.output]


def test_one_command_compares_all_forms_side_by_side(tmp_path: Path, monkeypatch, capsys):
    arguments = ["--models", "news-topics", "--rounds", "1", "--to", tmp_path / "told.json"]
    monkeypatch.setattr(sys, "argv", ["it", *map(str, arguments)])
    assert compare_int8.main() == 0
    told = json.loads((tmp_path / "told.json").read_text())["news-topics"]
    assert list(told) == list(FORMS)
    assert "| scales by row |" in capsys.readouterr().out
    moved = {form: own["moved by its neighbours in a batch"] for form, own in told.items()}
    assert moved.pop(DYNAMIC) > 1e-3
    assert max(moved.values()) < 1e-5
    assert told[BY_ROWS]["MB"] < told[FP32]["MB"]
    assert all(own["ms of CPU an item, alone"] > 0 for own in told.values())
