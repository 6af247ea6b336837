"""Generators that are no translators, exported both ways and served, against `generate`."""

import copy
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from models.convert.checkpoint import Checkpoint  # noqa: E402
from models.convert.inflight import convert_in_flight  # noqa: E402
from models.convert.publish import publish  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from tests.exports import generators, translators  # noqa: E402
from tests.exports.exporting import export_directory  # noqa: E402
from tests.exports.generators import hold_to_transformers  # noqa: E402
from tests.exports.translators import Translator  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WITH_PAST = "text2text-generation-with-past"


def saved(generator: Translator, folder: Path) -> Checkpoint:
    generator.model.config.architectures = [type(generator.model).__name__]
    generator.model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
    return Checkpoint(folder, generator.model)


@pytest.mark.parametrize("name", generators.MODELS)
async def test_it_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    generator = generators.MODELS[name](tmp_path / "tokenizer")
    model = copy.deepcopy(generator.model)  # the exporter changes settings of what it exports
    folder = export_directory(model, generator.tokenizer, tmp_path / "m", WITH_PAST)
    assert infer(folder).table["family"] == "generator"
    await hold_to_transformers(generator, folder)


@pytest.mark.parametrize("name", generators.MODELS)
async def test_in_flight_it_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    generator = generators.MODELS[name](tmp_path / "tokenizer")
    convert_in_flight(saved(generator, tmp_path / "source"), tmp_path / "m")
    assert infer(tmp_path / "m").table["family"] == "generator_steps"
    await hold_to_transformers(generator, tmp_path / "m")


def test_a_published_version_passes_its_goldens(tmp_path: Path) -> None:
    generator = generators.t5(tmp_path / "tokenizer")
    checkpoint = saved(generator, tmp_path / "source")
    made = convert_in_flight(checkpoint, tmp_path / "m")
    (tmp_path / "m" / "model.toml").write_text("[parameters]\nloop_window = 0\n")
    folder = publish(checkpoint, tmp_path / "m", tmp_path / "repository", "t5", made.evidence)
    items = [one["item"] for one in json.loads((folder / "goldens.json").read_text())["items"]]
    assert {item.get("num_beams") for item in items} == {None, 1}


def test_a_t5_that_translates_is_a_generator_only_by_its_manifest(tmp_path: Path) -> None:
    translator = translators.t5(tmp_path / "tokenizer")
    convert_in_flight(saved(translator, tmp_path / "source"), tmp_path / "m")
    assert infer(tmp_path / "m").table["task"] == "translate"
    table = infer(tmp_path / "m", {"task": "generate"}).table
    assert (table["family"], table["parameters"]["prefix"]) == ("generator_steps", "summarize: ")
    generator = generators.t5(tmp_path / "other")
    convert_in_flight(saved(generator, tmp_path / "source2"), tmp_path / "g")
    assert infer(tmp_path / "g").table["task"] == "generate"
    told = {"parameters": {"prefixes": {"en-de": ""}}}
    assert infer(tmp_path / "g", told).table["task"] == "translate"
