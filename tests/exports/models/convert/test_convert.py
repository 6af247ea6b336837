"""Checkpoints become directories that answer as PyTorch does, or are refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from models.convert.checkpoint import open_checkpoint  # noqa: E402
from models.convert.convert import Conversion, convert  # noqa: E402
from models.convert.errors import CheckpointError  # noqa: E402
from models.convert.graphs import graphs_of  # noqa: E402
from models.convert.optimise import fused, slimmed, try_on  # noqa: E402
from models.convert.parity import graph_outputs, largest_deviation  # noqa: E402
from models.convert.precisions import RECIPES, check_wanted  # noqa: E402
from models.convert.samples import Contents, drawn_images, read_contents  # noqa: E402
from service.repository.repository import ModelRepository  # noqa: E402
from service.requests.pipeline import Request  # noqa: E402
from service.tasks import ClassifyItem, Image, Text  # noqa: E402
from tests.exports.models.convert import checkpoints  # noqa: E402
from tests.exports.pictures import FILES  # noqa: E402
from tests.exports.serving import answers, serving  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore::UserWarning")]

TEXTS = ["one", "two three four one", "three two"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Conversion]:
    base = tmp_path_factory.mktemp("repository")
    source = open_checkpoint(checkpoints.classifier(base / "checkpoint"))
    made = convert(source, base / "served" / "m", ["fp16", "int8", "uint8-dynamic", "int4"])
    return base, made


def probabilities(base: Path) -> np.ndarray:
    source = open_checkpoint(base / "checkpoint")
    from transformers import AutoTokenizer  # noqa: PLC0415

    words = AutoTokenizer.from_pretrained(base / "checkpoint")
    read = [words(text, return_tensors="pt") for text in TEXTS]
    with torch.inference_mode():
        return np.array([source.model(**one).logits[0].softmax(-1).numpy() for one in read])


async def test_a_converted_checkpoint_is_served_with_no_code(texts: tuple[Path, Conversion]):
    base, _ = texts
    found = await answers(base / "served" / "m", [ClassifyItem(Text(text)) for text in TEXTS])
    for some in found:
        for answer, wanted in zip(some, probabilities(base), strict=True):
            by_label = {label.name: label.score for label in answer.labels}
            given = [by_label[name] for name in ("low", "middle", "high")]
            np.testing.assert_allclose(given, wanted, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8", "uint8", "q4"])
async def test_each_precision_is_found_by_its_suffix_and_loads(
    texts: tuple[Path, Conversion], precision: str
):
    base, _ = texts
    async with serving(base / "served" / "m", precision) as loaded:
        assert loaded.files.precision == precision
        assert f"_{precision}" in loaded.files.graphs["model"].name


def test_the_evidence_is_close_to_pytorch_and_says_what_is_given_up(texts: tuple[Path, Conversion]):
    _, made = texts
    by_name = {one.precision: one for one in made.evidence}
    assert list(by_name) == ["fp32", "fp16", "int8", "uint8-dynamic", "int4"]
    assert by_name["fp32"].relative < 1e-4
    assert 0 < by_name["fp16"].relative < 0.01
    # Which of int8 and int4 is nearer depends on the kernels that ONNX Runtime has for this CPU.
    assert by_name["fp16"].relative < by_name["int8"].relative < 0.3
    assert by_name["fp16"].relative < by_name["int4"].relative < 0.3
    # Of a model this small the nodes that find scales by row weigh more than int8 weights save.
    assert by_name["int4"].megabytes < by_name["fp32"].megabytes


def test_half_precision_keeps_the_types_of_inputs_and_outputs(texts: tuple[Path, Conversion]):
    base, _ = texts
    graph = onnx.load(graphs_of(base / "served" / "m", "fp16")["model"]).graph
    kinds = {value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
    assert kinds == {onnx.TensorProto.INT64, onnx.TensorProto.FLOAT}
    weights = {w.data_type for w in graph.initializer if len(w.dims) == 2}
    assert weights - {onnx.TensorProto.INT64} == {onnx.TensorProto.FLOAT16}  # positions stay


def test_a_translator_has_each_graph_in_each_precision(tmp_path: Path):
    source = open_checkpoint(checkpoints.translator(tmp_path / "checkpoint"))
    made = convert(source, tmp_path / "m", ["int8"])
    roles = {"encoder_model", "decoder_model", "decoder_with_past_model"}
    assert graphs_of(tmp_path / "m").keys() == graphs_of(tmp_path / "m", "int8").keys() == roles
    exact, small = made.evidence
    assert exact.relative < 1e-4 < small.relative < 0.1


async def test_static_int8_of_images_is_calibrated_and_served(tmp_path: Path):
    source = open_checkpoint(checkpoints.image_classifier(tmp_path / "checkpoint"))
    made = convert(source, tmp_path / "served" / "m", ["int8-static"], Contents((), drawn_images()))
    assert made.evidence[1].relative < 0.2
    async with serving(tmp_path / "served" / "m", "int8") as loaded:
        outcome = await loaded.pipeline.answer(ClassifyItem(Image(FILES[0])), Request())
    assert len(outcome.answer.labels) == 3
    kinds = {node.op_type for node in onnx.load(tmp_path / "served/m/model_int8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert "DynamicQuantizeLinear" not in kinds


def test_an_embedder_keeps_both_sides_in_its_graph(tmp_path: Path):
    source = open_checkpoint(checkpoints.embedder(tmp_path / "checkpoint"))
    made = convert(source, tmp_path / "served" / "m")
    assert made.evidence[0].agreement > 0.99999
    opened = ModelRepository(tmp_path / "served").open("m")
    assert opened.manifest.family == "dual_encoder"


def test_an_optimisation_that_changes_answers_is_not_kept(tmp_path: Path):
    from models.convert.convert import exported  # noqa: PLC0415

    source = open_checkpoint(checkpoints.classifier(tmp_path / "checkpoint"))
    subject = exported(source, tmp_path / "m")
    before = subject.graphs["model"].read_bytes()

    def wrong(path: Path, _: object) -> onnx.ModelProto:
        model = onnx.load(path)
        bias = next(w for w in model.graph.initializer if w.name == "classifier.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(3, 9, np.float32), bias.name))
        return model

    trial = try_on(subject, "model", "wrong", wrong)
    assert not trial.kept
    assert trial.deviation > 1
    assert subject.graphs["model"].read_bytes() == before
    assert not list((tmp_path / "m").glob(".*"))


@pytest.mark.parametrize("change", [slimmed, fused])
def test_an_optimised_graph_gives_the_same(change, tmp_path: Path):
    from models.convert.convert import exported  # noqa: PLC0415

    source = open_checkpoint(checkpoints.classifier(tmp_path / "checkpoint"))
    subject = exported(source, tmp_path / "m")
    changed = tmp_path / "changed.onnx"
    onnx.save(change(subject.graphs["model"], source), changed)
    given = graph_outputs(source, {"model": changed}, subject.feeds)
    assert largest_deviation(subject.wanted, given) < 1e-4


def test_two_recipes_for_one_served_precision_are_refused():
    with pytest.raises(CheckpointError, check=sentence):
        check_wanted(["int8", "int8-dynamic"], has_calibration=False)


def test_static_int8_without_calibration_is_refused():
    with pytest.raises(CheckpointError, check=sentence):
        check_wanted(["int8-static"], has_calibration=False)


def test_every_recipe_writes_a_suffix_that_is_served_as_what_it_says(tmp_path: Path):
    for recipe in RECIPES.values():
        (tmp_path / f"model{recipe.suffix}.onnx").write_bytes(b"")
        assert "model" in graphs_of(tmp_path, recipe.precision)


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(tmp_path: Path):
    folder = checkpoints.classifier(tmp_path / "checkpoint")
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (mark,)

    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, check=sentence):
        open_checkpoint(folder)
    assert not mark.exists()


def test_a_pickle_of_tensors_is_read(tmp_path: Path):
    safe = open_checkpoint(checkpoints.classifier(tmp_path / "safe"))
    folder = checkpoints.classifier(tmp_path / "pickled", safe=False)
    assert not list(folder.glob("*.safetensors"))
    weights = open_checkpoint(folder).model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in safe.model.state_dict().items())


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"architectures": ["Unheard"]},
        {"architectures": ["BertModel"]},
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_with_a_sentence(
    config: dict | None, tmp_path: Path
):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, check=sentence):
        open_checkpoint(tmp_path)


def test_calibration_without_contents_is_refused(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(CheckpointError, check=sentence):
        read_contents(tmp_path / "empty.txt")
