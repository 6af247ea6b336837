"""Layers that hurt stay in fp32, and no more of them than the budget asks for."""

from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from models.convert.checkpoint import open_checkpoint  # noqa: E402
from models.convert.convert import convert, exported  # noqa: E402
from models.convert.errors import CheckpointError  # noqa: E402
from models.convert.sensitivity import (  # noqa: E402
    Layer,
    keep_until,
    products,
    sensitive_nodes,
)
from models.graphs.int8_forms import quantise_by_rows  # noqa: E402
from tests.exports.models.convert import checkpoints  # noqa: E402
from tests.sentences import sentence  # noqa: E402

LAYERS = [Layer("model", name, loss) for name, loss in (("a", 1.0), ("b", 4.0), ("c", 2.0))]


@pytest.mark.parametrize(
    ("max_loss", "kept"), [(7.0, ""), (6.9, "b"), (3.0, "b"), (2.9, "bc"), (0.5, "bca")]
)
def test_the_most_hurtful_stay_until_the_rest_fits(max_loss: float, kept: str):
    def loss_of(some):
        return sum(one.loss for one in LAYERS if one not in some)

    found = keep_until(LAYERS, loss_of, max_loss)
    assert "".join(one.node for one in found) == kept


def in_few_bits(folder: Path) -> int:
    nodes = onnx.load(folder / "model_q4.onnx").graph.node
    return sum(node.op_type == "MatMulNBits" for node in nodes)


def test_int4_within_a_budget_keeps_some_layers_and_shrinks_the_others(tmp_path: Path):
    source = open_checkpoint(checkpoints.classifier(tmp_path / "checkpoint"))
    free = convert(source, tmp_path / "free", ["int4"]).evidence[1]
    budget = 100 * free.relative * 0.6
    bound = convert(source, tmp_path / "bound", ["int4"], max_loss=budget).evidence[1]
    assert 100 * bound.relative <= budget
    assert 0 < in_few_bits(tmp_path / "bound") < in_few_bits(tmp_path / "free")
    assert not list((tmp_path / "bound").glob(".*"))


def test_a_budget_that_nothing_meets_is_refused(tmp_path: Path):
    subject = exported(open_checkpoint(checkpoints.classifier(tmp_path / "c")), tmp_path / "m")
    assert len(products(onnx.load(subject.graphs["model"]))) >= 12
    with pytest.raises(CheckpointError, check=sentence):
        sensitive_nodes(subject, quantise_by_rows, max_loss=0.0)
