"""A published version is whole, proven against PyTorch, next in line; or nothing has changed."""

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from transformers import AutoTokenizer  # noqa: E402

from models.convert.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from models.convert.convert import Conversion, convert  # noqa: E402
from models.convert.errors import CheckpointError  # noqa: E402
from models.convert.publish import SUMS, publish  # noqa: E402
from models.convert.report import Evidence, best_of, table_of  # noqa: E402
from models.convert.samples import Contents, drawn_images, read_contents  # noqa: E402
from models.evaluate.served import serve  # noqa: E402
from service.repository.repository import ModelRepository  # noqa: E402
from tests.exports.models.convert import checkpoints  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore::UserWarning")]

TEXTS = Contents(["one two", "three four one two", "two"])
PICTURES = drawn_images()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path, Conversion]:
    base = tmp_path_factory.mktemp("exported")
    checkpoint = open_checkpoint(checkpoints.classifier(base / "checkpoint"))
    return checkpoint, base / "export", convert(checkpoint, base / "export", ["int8"])


def published(exported: tuple[Checkpoint, Path, Conversion], repository: Path) -> Path:
    checkpoint, folder, made = exported
    return publish(checkpoint, folder, repository, "m", made.evidence, TEXTS)


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


async def loaded_deviation(repository: Path, precision: str) -> float:
    async with serve(repository, "m", precision) as served:
        return served.loaded.parity.deviation


def test_versions_follow_each_other_and_nothing_hidden_is_left(exported, tmp_path: Path):
    assert published(exported, tmp_path) == tmp_path / "m" / "1"
    assert published(exported, tmp_path) == tmp_path / "m" / "2"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2"]


def test_a_version_has_goldens_of_pytorch_tolerances_and_true_digests(exported, tmp_path: Path):
    folder = published(exported, tmp_path)
    opened = ModelRepository(tmp_path).open("m", precision="int8")
    assert len(opened.goldens) == len(TEXTS.texts)
    assert 1e-3 <= opened.tolerance < 0.1
    with torch.inference_mode():
        # [CLS] one two [SEP]
        logits = exported[0].model(input_ids=torch.tensor([[2, 4, 5, 3]])).logits[0]
    wanted = dict(zip(("low", "middle", "high"), logits.softmax(-1).tolist(), strict=True))
    given = {label.name: label.score for label in opened.goldens[0].answer.labels}
    assert given == pytest.approx(wanted, abs=1e-6)
    listed = [line.split("  ") for line in (folder / SUMS).read_text().splitlines()]
    assert {"model.onnx", "model_int8.onnx", "config.json"} <= {name for _, name in listed}
    for digest, name in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "| int8 |" in (folder / "README.md").read_text()
    assert (folder / "goldens" / "precisions.png").read_bytes().startswith(b"\x89PNG")


async def test_every_precision_of_a_version_passes_its_own_gate(exported, tmp_path: Path):
    await asyncio.to_thread(published, exported, tmp_path)
    exact = await loaded_deviation(tmp_path, "fp32")
    assert exact < 1e-4 < await loaded_deviation(tmp_path, "int8")


def test_graphs_that_are_not_the_checkpoints_are_not_published(exported, tmp_path: Path):
    checkpoint, _, _ = exported
    convert(checkpoint, tmp_path / "export")
    path = tmp_path / "export" / "model.onnx"
    graph = onnx.load(path)
    bias = next(w for w in graph.graph.initializer if w.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([3, 0, 0], np.float32), bias.name))
    onnx.save(graph, path)
    with pytest.raises(CheckpointError, check=sentence):
        publish(checkpoint, tmp_path / "export", tmp_path / "repository", "m", (), TEXTS)
    assert everything(tmp_path / "repository") == set()


def test_a_directory_that_cannot_be_served_leaves_the_old_version_alone(exported, tmp_path: Path):
    published(exported, tmp_path / "repository")
    before = everything(tmp_path / "repository")
    (tmp_path / "broken").mkdir()
    with pytest.raises(CheckpointError, check=sentence):
        publish(exported[0], tmp_path / "broken", tmp_path / "repository", "m", (), TEXTS)
    assert everything(tmp_path / "repository") == before


def test_goldens_of_a_detector_hold_objects_that_the_service_finds_again(tmp_path: Path):
    source = open_checkpoint(checkpoints.detector(tmp_path / "checkpoint"))
    convert(source, tmp_path / "export")
    publish(source, tmp_path / "export", tmp_path / "repository", "m")
    goldens = ModelRepository(tmp_path / "repository").open("m").goldens
    assert all(golden.item.threshold == 0.3 for golden in goldens)
    assert sum(len(golden.answer.objects) for golden in goldens) > 0


def test_goldens_of_a_detector_that_sees_nothing_are_refused(tmp_path: Path):
    source = open_checkpoint(checkpoints.detector(tmp_path / "checkpoint", confidence=1.0))
    convert(source, tmp_path / "export")
    with pytest.raises(CheckpointError, check=sentence):
        publish(source, tmp_path / "export", tmp_path / "repository", "m")


def test_a_translator_and_an_embedder_are_published_too(tmp_path: Path):
    for name in ("translator", "embedder"):
        source = open_checkpoint(getattr(checkpoints, name)(tmp_path / name))
        convert(source, tmp_path / "export" / name)
        folder = publish(source, tmp_path / "export" / name, tmp_path / "repository", name)
        assert ModelRepository(tmp_path / "repository").open(name).folder == folder


@pytest.mark.parametrize("kind", ["sentence_embedder", "image_embedder"])
async def test_an_embedder_of_one_kind_is_published_with_what_its_library_answers(
    kind: str, tmp_path: Path
):
    source = open_checkpoint(getattr(checkpoints, kind)(tmp_path / "source"))
    await asyncio.to_thread(convert, source, tmp_path / "export", ["int8"])
    place = tmp_path / "export", tmp_path / "repository"
    await asyncio.to_thread(publish, source, *place, "m", (), Contents(TEXTS.texts, PICTURES))
    goldens = ModelRepository(tmp_path / "repository").open("m").goldens
    lengths = [np.linalg.norm(golden.answer.vector) for golden in goldens]
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert await loaded_deviation(tmp_path / "repository", "fp32") < 1e-4
    if kind == "sentence_embedder":
        asked = [(golden.item.content.text, golden.item.prompt_name) for golden in goldens]
        named = {(text, name) for name in ("query", "passage") for text in TEXTS.texts[:2]}
        assert set(asked) >= {(text, None) for text in TEXTS.texts} | named
        by_name = {one: golden.answer.vector for one, golden in zip(asked, goldens, strict=True)}
        plain, default = by_name["one two", None], by_name["one two", "passage"]
        np.testing.assert_array_equal(plain, default)
        assert np.abs(plain - by_name["one two", "query"]).max() > 0.01


async def test_an_embedder_whose_pooling_only_the_manifest_tells_is_compared_too(tmp_path: Path):
    folder = checkpoints.sentence_embedder(tmp_path / "source")
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    source = open_checkpoint(folder)
    await asyncio.to_thread(convert, source, tmp_path / "export")
    said = '[parameters]\npooling = "cls"\nnormalize = false\n'
    (tmp_path / "export" / "model.toml").write_text(said)
    place = tmp_path / "export", tmp_path / "repository"
    await asyncio.to_thread(publish, source, *place, "m", (), TEXTS)
    assert await loaded_deviation(tmp_path / "repository", "fp32") < 1e-4
    (first, *_) = ModelRepository(tmp_path / "repository").open("m").goldens
    assert np.linalg.norm(first.answer.vector) > 1.5


def test_goldens_of_a_classifier_hold_the_pairs_that_it_was_given(exported, tmp_path: Path):
    (tmp_path / "items.txt").write_text("one two\nthree\tfour two\n")
    items = read_contents(tmp_path / "items.txt")
    publish(exported[0], exported[1], tmp_path / "repository", "m", (), items)
    one, pair = ModelRepository(tmp_path / "repository").open("m").goldens
    assert (one.item.text_pair, pair.item.text_pair) == (None, "four two")
    with torch.inference_mode():
        words = AutoTokenizer.from_pretrained(exported[0].folder)
        read = words("three", "four two", return_tensors="pt")
        logits = exported[0].model(**read).logits[0]
    scores = {label.name: label.score for label in pair.answer.labels}
    assert scores == pytest.approx(
        dict(zip(("low", "middle", "high"), logits.softmax(-1).tolist(), strict=True)), abs=1e-5
    )


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(exported, name: str, tmp_path: Path):
    with pytest.raises(CheckpointError, check=sentence):
        publish(exported[0], exported[1], tmp_path, name)
    assert everything(tmp_path) == set()


def test_the_front_leaves_out_what_another_beats_in_everything():
    def one(name: str, deviation: float, milliseconds: float, megabytes: float) -> Evidence:
        return Evidence(name, deviation, deviation, 1.0, milliseconds, megabytes)

    found = [one("fp32", 0, 9, 9), one("fp16", 1, 5, 5), one("slow", 2, 6, 5), one("int8", 3, 5, 3)]
    assert [each.precision for each in best_of(found)] == ["fp32", "fp16", "int8"]
    assert table_of(found).count("\n") == 1 + len(found)
