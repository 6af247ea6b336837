"""Checkpoints of translators, made into step graphs and served, against `generate` on PyTorch."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from models.convert.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from models.convert.errors import CheckpointError  # noqa: E402
from models.convert.inflight import convert_in_flight  # noqa: E402
from models.export import main  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from service.repository.repository import ModelRepository  # noqa: E402
from service.tasks import TranslateItem  # noqa: E402
from tests.exports import translators  # noqa: E402
from tests.exports.models.convert import checkpoints  # noqa: E402
from tests.exports.serving import serving  # noqa: E402
from tests.exports.translators import TEXTS, Translator, hold_to_transformers  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def saved(translator: Translator, folder: Path) -> Checkpoint:
    """As if it had been opened; transformers does not tie again what the tests have untied."""
    translator.model.config.architectures = [type(translator.model).__name__]
    translator.model.save_pretrained(folder)
    translator.tokenizer.save_pretrained(folder)
    return Checkpoint(folder, translator.model)


@pytest.mark.parametrize("name", translators.MODELS)
async def test_in_flight_it_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    translator = translators.MODELS[name](tmp_path / "tokenizer")
    made = convert_in_flight(saved(translator, tmp_path / "source"), tmp_path / "m")
    assert [one.precision for one in made.evidence] == ["fp32"]
    assert infer(tmp_path / "m").table["family"] == "encoder_decoder_steps"
    await hold_to_transformers(translator, tmp_path / "m")


@pytest.mark.parametrize("precision", ["int8", "q4", "fp16"])
async def test_in_other_precisions_a_text_is_translated_alike_in_any_company(
    precision: str, tmp_path: Path
) -> None:
    translator = translators.m2m100(tmp_path / "tokenizer")
    checkpoint = saved(translator, tmp_path / "source")
    made = convert_in_flight(checkpoint, tmp_path / "m", ["int8", "int4", "fp16"])
    assert [one.precision for one in made.evidence] == ["fp32", "int8", "int4", "fp16"]
    items = [TranslateItem(text, **translator.languages) for text in TEXTS]
    async with serving(tmp_path / "m", precision) as loaded:
        family: Any = loaded.pipeline.family
        works = [family.processor.preprocess(item) for item in items]
        together = loaded.instances.infer(family.model.infer, works, exclusive=False)
        for work, result in zip(works, together, strict=True):
            (alone,) = loaded.instances.infer(family.model.infer, [work], exclusive=False)
            assert alone["ids"].tolist() == result["ids"].tolist()


async def test_one_command_makes_a_version_that_passes_its_goldens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoints.translator(tmp_path / "source")
    (tmp_path / "texts.txt").write_text("one two three\ntwo\nfour one\n")
    command = f"export {source} --to {tmp_path / 'm'} --in-flight --precisions int8 --publish zh-en"
    paths = f"--repository {tmp_path / 'repository'} --goldens {tmp_path / 'texts.txt'}"
    monkeypatch.setattr(sys, "argv", f"{command} {paths}".split())
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.toml").write_text("[parameters]\nloop_window = 0\nnum_beams = 1\n")
    import asyncio  # noqa: PLC0415

    assert await asyncio.to_thread(main) == 0
    opened = ModelRepository(tmp_path / "repository").open("zh-en", precision="int8")
    assert opened.manifest.family == "encoder_decoder_steps"
    assert len(opened.goldens) == 3
    assert "| int8 |" in (opened.folder / "README.md").read_text()


def test_goldens_are_of_several_languages_where_a_model_knows_several(tmp_path: Path) -> None:
    from models.convert.publish import publish  # noqa: PLC0415

    translator = translators.nllb(tmp_path / "tokenizer")
    checkpoint = saved(translator, tmp_path / "source")
    made = convert_in_flight(checkpoint, tmp_path / "m")
    (tmp_path / "m" / "model.toml").write_text("[parameters]\nloop_window = 0\n")
    folder = publish(checkpoint, tmp_path / "m", tmp_path / "repository", "nllb", made.evidence)
    items = [one["item"] for one in json.loads((folder / "goldens.json").read_text())["items"]]
    assert {item["target"] for item in items} == {"ace_Arab", "zul_Latn"}
    assert {item.get("num_beams") for item in items} == {None, 1}


def test_a_text_that_is_said_over_and_over_is_no_golden(tmp_path: Path) -> None:
    from models.convert.publish import publish  # noqa: PLC0415

    translator = translators.marian(tmp_path / "tokenizer")
    with torch.no_grad():
        translator.model.final_logits_bias[0, 9] = 1e4  # whatever it reads
    checkpoint = saved(translator, tmp_path / "source")
    convert_in_flight(checkpoint, tmp_path / "m")
    with pytest.raises(CheckpointError, check=sentence):
        publish(checkpoint, tmp_path / "m", tmp_path / "repository", "m")
    assert list((tmp_path / "repository").iterdir()) == []


REFUSED = {
    "repetition_penalty": 0.8,
    "begin_suppress_tokens": [5],
    "eos_token_id": [0, 7],
    "num_beam_groups": 2,
    "exponential_decay_length_penalty": [3, 1.1],
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_there_in_flight_is_refused_before_graphs_are_written(
    key: str, tmp_path: Path
) -> None:
    source = checkpoints.translator(tmp_path / "source")
    path = source / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: REFUSED[key]}))
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(open_checkpoint(source), tmp_path / "m")
    assert not list((tmp_path / "m").glob("*.onnx"))


def test_other_checkpoints_and_precisions_are_refused_by_name(tmp_path: Path) -> None:
    classifier = open_checkpoint(checkpoints.classifier(tmp_path / "classifier"))
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(classifier, tmp_path / "m")
    translator = open_checkpoint(checkpoints.translator(tmp_path / "translator"))
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(translator, tmp_path / "m", ["int8-static"])
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(translator, tmp_path / "m", ["int8", "int8-weights"])


def test_a_model_whose_graphs_would_be_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.convert.inflight._MOST_BYTES", 10_000)
    translator = open_checkpoint(checkpoints.translator(tmp_path / "translator"))
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(translator, tmp_path / "m")


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    translator = translators.m2m100(tmp_path / "tokenizer")
    folder = saved(translator, tmp_path / "source").folder  # untied, but saved as if it were tied
    with pytest.raises(CheckpointError, check=sentence):
        open_checkpoint(folder)
