"""Static int8 of convolutions: what hurts stays in fp32, and the folder serves what was kept."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import torch

from models import export
from models.convert.asking import image_items, loss_of, noise_of
from models.convert.choice import Choice, Form, forms_table
from models.convert.errors import CheckpointError
from models.convert.served import add_int8, is_served
from models.evaluate.served import serve
from models.graphs.files import export_graph, save_graph
from models.graphs.static import AFTER, StaticQuantiser, parts_of
from models.version_files import write_manifest
from service.tasks import Classification, DetectedObject, Detections, Label, Task
from tests.exports.models.convert.checkpoints import convolutions
from tests.exports.pictures import picture
from tests.exports.serving import answers
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # real threads

SIDE, LABELS = 64, ("a", "b")
IMAGES = [picture((SIDE, SIDE), seed) for seed in range(6)]
STARTER = Path("models/repository/cards/1")


class Detector(torch.nn.Module):
    """Boxes in pixels and scores in one output, as YOLOv8 gives them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        sizes = [(3, 16), (16, 32), (32, 32), (32, 6)]
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv2d(one, other, 3, 2, padding=1) for one, other in sizes
        )
        for layer in self.layers:
            torch.nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images - 0.5
        for layer in self.layers[:-1]:
            values = layer(values).relu()
        cells = self.layers[-1](values).flatten(2)
        places = torch.arange(16, dtype=torch.float32)
        middle = torch.stack([places % 4, places // 4]) * 16 + 8 + cells[:, :2].tanh()
        extent = 14 + 2 * cells[:, 2:4].tanh()
        return torch.cat([middle, extent, (cells[:, 4:] / 4).sigmoid()], 1)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    example = {"images": torch.zeros(2, 3, SIDE, SIDE)}
    return export_graph(Detector(), example, ["output0"], {"images": {0: "batch"}})


@pytest.fixture
def version(graph: onnx.ModelProto, tmp_path: Path) -> Path:
    folder = tmp_path / "boxes" / "1"
    save_graph(graph, folder / "model.onnx")
    parameters = {"labels": list(LABELS), "image_size": SIDE}
    graphs = {"fp32": {"model": "model.onnx"}}
    said = {"task": "detect", "family": "detector", "graphs": graphs, "parameters": parameters}
    write_manifest(folder, said)
    return folder


def feeds(images: list[Image.Image]) -> list[dict[str, np.ndarray]]:
    planes = [np.asarray(one, np.float32).transpose(2, 0, 1)[None] / 255 for one in images]
    return [{"images": one} for one in planes]


def test_a_graph_falls_apart_at_its_products(graph: onnx.ModelProto):
    with StaticQuantiser(graph, feeds(IMAGES)) as quantiser:
        *products, after = quantiser.parts
        assert (len(products), after.name) == (4, AFTER)
        whole = [node for part in quantiser.parts for node in part.nodes]
        assert len(whole) == len(set(whole))
        kept = [*products[0].nodes, *after.nodes]
        kinds = [node.op_type for node in quantiser.quantised(kept).graph.node]
        named = {node.name for node in quantiser.quantised(kept).graph.node}
        assert set(kept) <= named
        assert kinds.count("Conv") == 4
        most = max(
            np.abs(onnx.numpy_helper.to_array(one).astype(int)).max()
            for one in quantiser.quantised(kept).graph.initializer
            if one.data_type == onnx.TensorProto.INT8 and one.dims
        )
        assert 60 <= most <= 64  # what AVX2 cannot overflow with
    assert parts_of(onnx.ModelProto()) == []


def test_boxes_and_scores_with_one_scale_are_found_out(version: Path):
    choice = add_int8(version, IMAGES, 5.0, is_static=True)
    static = choice.forms[1]
    assert choice.graph is not None
    assert static.loss <= 5
    kept = int(static.name.split(", ")[2].split()[0])
    assert 1 <= kept < 5
    model = onnx.load(choice.graph)
    made_from = {name: node for node in model.graph.node for name in node.output}
    assert made_from["output0"].op_type == "Concat"  # not rounded to 256 levels of 64 pixels
    assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)


async def test_the_version_is_served_in_int8_and_blind_to_neighbours(version: Path):
    items = image_items(Task.DETECT, IMAGES)
    exact, _ = await answers(version.parent, items)
    await asyncio.to_thread(add_int8, version, IMAGES, 5.0, is_static=True)
    text = (version / "model.toml").read_text()
    by_default = text.replace("[graphs", '[default_precision]\ncpu = "int8"\n\n[graphs', 1)
    (version / "model.toml").write_text(by_default)
    alone, together = await answers(version.parent, items)
    assert alone == together
    assert 0 < loss_of(exact, alone) <= 5


def test_an_export_without_a_manifest_gets_a_second_file(graph: onnx.ModelProto, tmp_path: Path):
    source = tmp_path / "plain"
    source.mkdir()
    named = onnx.ModelProto()
    named.CopyFrom(graph)
    onnx.helper.set_model_props(
        named, {"names": repr(dict(enumerate(LABELS))), "task": "detect", "stride": "16"}
    )
    onnx.save(named, source / "best.onnx")
    assert is_served(source)
    choice = add_int8(source, IMAGES, 5.0, is_static=True)
    assert choice.graph == source / "best_int8.onnx"

    async def found() -> int:
        async with serve(tmp_path, "plain", "int8") as served:
            (one,) = await served.answers(image_items(Task.DETECT, IMAGES[:1]), "images")
            return len(one.objects)

    assert asyncio.run(found()) > 0


def test_the_starter_is_calibrated_on_its_goldens(tmp_path: Path, capsys: pytest.CaptureFixture):
    source, to = tmp_path / "cards" / "1", tmp_path / "made" / "cards" / "1"
    shutil.copytree(STARTER, source)
    run = ["export", str(source), "--to", str(to), "--precisions", "int8-static"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*run, "--max-loss", "60"])  # a bound that needs no search
        assert export.main() == 0
    assert "| static, weights of 7 bits" in capsys.readouterr().out

    async def parity() -> float:
        async with serve(tmp_path / "made", "cards", "int8") as served:
            assert served.loaded.parity is not None
            return served.loaded.parity.batch_deviation

    assert asyncio.run(parity()) < 1e-5


def test_a_checkpoint_of_convolutions_gets_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for at, image in enumerate(IMAGES):
        image.save(pictures / f"{at}.png")
    source, to = convolutions(tmp_path / "source"), tmp_path / "made"
    run = ["export", str(source), "--to", str(to), "--precisions", "int8", "--max-loss", "50"]
    monkeypatch.setattr("models.convert.choice.GAIN", 0.0)  # so small a graph is not faster
    monkeypatch.setattr("sys.argv", [*run, "--calibration", str(pictures)])
    assert export.main() == 0
    assert (to / "model_int8.onnx").exists()


@pytest.mark.parametrize("more", [["--publish", "n"], ["--in-flight"], ["--precisions", "fp16"]])
def test_what_is_exported_already_is_only_quantised(
    more: list[str], version: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    run = ["export", str(version), "--to", str(version), "--precisions", "int8", *more]
    monkeypatch.setattr("sys.argv", run)
    assert export.main() == 1
    assert "is exported already" in capsys.readouterr().err


def test_without_images_and_goldens_nothing_is_calibrated(version: Path):
    with pytest.raises(CheckpointError, check=sentence):
        add_int8(version)


def found(*objects: DetectedObject) -> Detections:
    return Detections(objects, 64, 64)


def test_the_loss_of_a_detector_is_of_scores_and_boxes():
    one = DetectedObject("a", 0.8, (0, 0, 10, 10))
    moved = DetectedObject("a", 0.7, (0, 0, 10, 8))
    other = DetectedObject("b", 0.9, (0, 0, 10, 10))
    faint = DetectedObject("b", 0.2, (0, 0, 10, 10))
    assert loss_of([found(one)], [found(one, faint)]) == 0
    assert loss_of([found(one)], [found(moved)]) == pytest.approx(20)
    assert loss_of([found(one)], [found(other)]) == 100
    assert loss_of([found(one)], [found(one, other)]) == pytest.approx(100 / 3)
    with pytest.raises(CheckpointError, check=sentence):
        loss_of([found(faint)], [found()])
    scores = [Classification((Label("a", score), Label("b", 1 - score))) for score in (0.5, 0.6)]
    assert loss_of(scores[:1], scores[1:]) == pytest.approx(10)


def test_noise_is_judged_by_the_kind_of_value():
    boxes, scores = (
        np.linspace(0, 640, 80).reshape(1, 4, 20),
        np.linspace(0, 1, 20).reshape(1, 1, 20),
    )
    exact = {"output0": np.concatenate([boxes, scores], 1)}
    lost = {"output0": np.concatenate([boxes, 0 * scores], 1)}
    assert noise_of([exact], [exact]) == 0
    assert noise_of([exact], [lost]) > 0.4  # a fifth of the kinds has nothing left
    assert noise_of([exact], [{"output0": boxes}]) == 1


def test_the_table_has_the_verdicts():
    forms = [Form("fp32", 0, 10, 4, "original"), Form("static", 0.5, 5, 1, "chosen")]
    table = forms_table(Choice(forms, None).forms)
    assert "| static | 5.00 | 2.00 | 0.50 % | 1.00 | chosen |" in table
