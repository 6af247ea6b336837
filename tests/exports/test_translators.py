"""Translators, served from plain export directories, against `generate` on PyTorch."""

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

from service.repository.layouts.inference import infer  # noqa: E402
from service.tasks import TranslateItem  # noqa: E402
from tests.exports import translators  # noqa: E402
from tests.exports.exporting import export_directory  # noqa: E402
from tests.exports.serving import serving  # noqa: E402
from tests.exports.translators import TEXTS, hold_to_transformers, let_loops_be  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WITH_PAST = "text2text-generation-with-past"


@pytest.mark.parametrize("name", translators.MODELS)
async def test_it_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    translator = translators.MODELS[name](tmp_path / "tokenizer")
    model = copy.deepcopy(translator.model)  # the exporter changes settings of what it exports
    folder = export_directory(model, translator.tokenizer, tmp_path / "m", WITH_PAST)
    await hold_to_transformers(translator, folder)


async def test_every_set_of_graphs_is_served(tmp_path: Path) -> None:
    translator = translators.marian(tmp_path / "tokenizer")
    model = copy.deepcopy(translator.model)
    folder = export_directory(model, translator.tokenizer, tmp_path / "m", WITH_PAST)
    let_loops_be(folder)
    (folder / "onnx").mkdir()  # as transformers.js wants it
    for graph in folder.glob("*.onnx"):
        graph.rename(folder / "onnx" / graph.name)
    for kind, no_longer in (
        ("merged", ()),
        ("pair", ("decoder_model_merged",)),
        ("none", ("decoder_with_past_model",)),
    ):
        for name in no_longer:
            (folder / "onnx" / f"{name}.onnx").unlink()
        told = infer(folder)
        assert told.table["parameters"]["cache"] == kind
        async with serving(folder) as loaded:
            family: Any = loaded.pipeline.family
            for num_beams in (1, 4):
                works = [
                    family.processor.preprocess(TranslateItem(t, num_beams=num_beams))
                    for t in TEXTS
                ]
                results = loaded.instances.infer(family.model.infer, works, exclusive=False)
                assert [result["ids"].tolist() for result in results] == [
                    translator.generated(text, num_beams=num_beams) for text in TEXTS
                ]
