"""What is found out at load about a version's answers, on real graphs through the real loader."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.errors import ModelLoadError
from service.registry.loader import Loaded, Loader
from service.registry.parity import Parity
from service.repository.repository import ModelRepository
from service.runtime.providers import Device
from tests.lamps import WEIGHTS, make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads


@asynccontextmanager
async def loaded(root: Path, model: str, precision: str | None = None) -> AsyncIterator[Loaded]:
    runtime = DeviceRuntime(Device("cpu"), 2)
    cache = ResponseCache(NullBackend(), enabled=False)
    try:
        files = ModelRepository(root).open(model, None, precision, "cpu")
        version = await Loader(EngineFactory(runtime), cache, warm_up_seconds=0.001).load(files)
        yield version
        await version.close(grace=0)
    finally:
        runtime.close()


async def parity_of(root: Path, model: str, precision: str | None = None) -> Parity:
    async with loaded(root, model, precision) as version:
        assert version.parity is not None
        return version.parity


def model(
    nodes: list[onnx.NodeProto], feed: str, shape: list[object], **constants: object
) -> bytes:
    dtype = TensorProto.FLOAT if feed == "pixel_values" else TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(feed, dtype, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def lamps(tmp_path: Path) -> Path:
    make_repository(tmp_path)
    return tmp_path


@pytest.fixture
def quantised(lamps: Path) -> Path:
    """`lamps` as `quantize_dynamic` of ONNX Runtime writes it."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "weights", "zero"], ["product"]),
        helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "weights_scale"], ["both"]),
        helper.make_node("Mul", ["wide", "both"], ["logits"]),
    ]
    return with_int8(lamps, nodes, weights_scale=np.float32(1.0))


@pytest.fixture
def batch_wide(lamps: Path) -> Path:
    """`lamps` with one scale over the whole batch, in another form."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "weights", "zero"], ["product"]),
        helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["logits"]),
    ]
    return with_int8(lamps, nodes)


def with_int8(lamps: Path, nodes: list[onnx.NodeProto], **constants: object) -> Path:
    folder = lamps / "lamps" / "1"
    weights = WEIGHTS.astype(np.int8)
    graph = model(nodes, "pixel_values", ["batch", 1, 2, 2], weights=weights, **constants)
    (folder / "model_int8.onnx").write_bytes(graph)
    manifest = (folder / "model.toml").read_text()
    manifest = manifest.replace("int8 = 1e-4", "int8 = 1").replace("mean = [0.0]", "mean = [0.3]")
    (folder / "model.toml").write_text(manifest)
    return lamps


def with_batch_variance(root: Path, wanted: str) -> Path:
    manifest = root / "lamps" / "1" / "model.toml"
    manifest.write_text(f'batch_variance = "{wanted}"\n' + manifest.read_text())
    return root


async def test_goldens_are_compared_alone_and_in_a_batch(lamps: Path) -> None:
    parity = await parity_of(lamps, "lamps")
    assert (parity.goldens, parity.precision, parity.device) == (3, "fp32", "cpu")
    assert parity.ways.keys() == {"alone", "batched"}  # images are never padded
    assert parity.deviation < 1e-5 <= parity.tolerance
    assert (parity.flips, parity.batch_flips) == (0, 0)
    assert (parity.batch_deviation, parity.batch_wide) == (0, [])


async def test_a_version_that_deviates_is_refused_with_the_way_and_the_golden(lamps: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        await parity_of(lamps, "lamps", "int8")


async def test_a_graph_that_quantises_over_batches_runs_every_item_alone(batch_wide: Path) -> None:
    async with loaded(batch_wide, "lamps", "int8") as version:
        parity, statistics = version.parity, version.pipeline.engines["default"].statistics()
    assert parity is not None
    assert (parity.batch_wide, parity.batch_deviation) == (["model"], 0)
    assert statistics.ceiling == 1


async def test_a_graph_that_can_quantise_by_rows_is_batched(quantised: Path) -> None:
    async with loaded(quantised, "lamps", "int8") as version:
        parity, statistics = version.parity, version.pipeline.engines["default"].statistics()
    assert parity is not None
    assert (parity.row_scaled, parity.batch_wide) == (["model"], [])
    assert parity.batch_deviation < 1e-6
    assert parity.deviation < parity.tolerance
    assert statistics.ceiling > 1


async def test_a_graph_that_could_quantise_by_rows_is_served_as_it_is_on_request(
    quantised: Path,
) -> None:
    parity = await parity_of(with_batch_variance(quantised, "isolate"), "lamps", "int8")
    assert (parity.row_scaled, parity.batch_wide) == ([], ["model"])


async def test_where_it_is_accepted_the_influence_of_neighbours_is_measured(
    batch_wide: Path,
) -> None:
    parity = await parity_of(with_batch_variance(batch_wide, "accept"), "lamps", "int8")
    assert 1e-5 < parity.batch_deviation < 0.1


async def test_where_it_is_refused_the_version_does_not_load(batch_wide: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        await parity_of(with_batch_variance(batch_wide, "refuse"), "lamps", "int8")


async def test_what_reads_padding_is_found_out_next_to_a_longer_text(tmp_path: Path) -> None:
    """A mean over all places, padded ones included, is right for every text alone."""
    folder = means(tmp_path)
    items = [golden_text("a", 1.0)] * 4 + [golden_text("b b b b b b", 2.0)]
    (folder / "goldens.json").write_text(json.dumps({"created_with": "numpy", "items": items}))
    with pytest.raises(ModelLoadError, check=sentence):
        await parity_of(tmp_path, "means")


async def test_without_goldens_what_reads_padding_runs_every_item_alone(tmp_path: Path) -> None:
    means(tmp_path)
    async with loaded(tmp_path, "means") as version:
        assert version.pipeline.engines["default"].statistics().ceiling == 1


async def test_without_goldens_what_reads_padding_is_refused_where_that_is_wanted(
    tmp_path: Path,
) -> None:
    manifest = means(tmp_path) / "model.toml"
    manifest.write_text('batch_variance = "refuse"\n' + manifest.read_text())
    with pytest.raises(ModelLoadError, check=sentence):
        await parity_of(tmp_path, "means")


async def test_without_goldens_what_does_not_read_padding_is_batched(tmp_path: Path) -> None:
    means(tmp_path, "ReduceMax")  # which padding of the least id does not change
    async with loaded(tmp_path, "means") as version:
        assert version.pipeline.engines["default"].statistics().ceiling > 1


def means(root: Path, operator: str = "ReduceMean") -> Path:
    """A mean over all places of a text, padded ones included."""
    folder = root / "means" / "1"
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node(operator, ["ids"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    weights = np.array([[-0.5, 0.5]], np.float32)
    (folder / "model.onnx").write_bytes(
        model(nodes, "input_ids", ["batch", "length"], weights=weights)
    )
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "b": 2}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.toml").write_text(
        'task = "classify"\nfamily = "text_classifier"\ngraphs.fp32.model = "model.onnx"\n'
        "tolerance.fp32 = 0.02\n"
        '[parameters]\nlabels = ["low", "high"]\nmax_length = 16\npad_id = 0\n'
    )
    return folder


def golden_text(text: str, mean: float) -> dict[str, object]:
    high = float(1 / (1 + np.exp(-mean)))
    labels = [{"label": "high", "score": high}, {"label": "low", "score": 1 - high}]
    return {"item": {"text": text}, "answer": {"labels": labels}}


async def test_a_version_without_goldens_has_nothing_to_compare(lamps: Path) -> None:
    (lamps / "lamps" / "1" / "goldens.json").unlink()
    async with loaded(lamps, "lamps") as version:
        assert version.parity is None
