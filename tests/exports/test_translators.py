"""Translators, served from plain export directories, against `generate` on PyTorch."""

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

from service.cache.responses import CacheMode  # noqa: E402
from service.pipeline import CallOptions  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from service.tasks import TranslateItem  # noqa: E402
from tests.exports import translators  # noqa: E402
from tests.exports.exporting import export_directory  # noqa: E402
from tests.exports.serving import serving  # noqa: E402
from tests.exports.translators import TEXTS, Translator  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

WITH_PAST = "text2text-generation-with-past"
CALL = CallOptions(cache=CacheMode.BYPASS)

MODELS: dict[str, Callable[[Path], Translator]] = {
    "Marian": translators.marian,
    "Marian for several languages": lambda f: translators.marian(f, ("deu", "fra", "spa")),
    "T5": translators.t5,
    "M2M-100": translators.m2m100,
    "mBART-50": translators.mbart50,
    "NLLB": translators.nllb,
}


async def compare(translator: Translator, folder: Path) -> None:
    """Hold the served model to transformers: tokens in, tokens out, and texts."""
    written = set()
    async with serving(folder) as loaded:
        family: Any = loaded.pipeline.family
        for options in (
            {"num_beams": 1},
            {"num_beams": 4},
            {"num_beams": 4, "length_penalty": 0.6},
        ):
            items = [TranslateItem(text, **translator.languages, **options) for text in TEXTS]
            works = [family.preprocess(item) for item in items]
            for work, text in zip(works, TEXTS, strict=True):
                assert work.tensors["input_ids"].tolist() == translator.asked(text)
            results = loaded.instances.infer(family.infer, works, alone=False)
            answers = await asyncio.gather(*(loaded.pipeline.answer(item, CALL) for item in items))
            for result, answered, text in zip(results, answers, TEXTS, strict=True):
                wanted = translator.generated(text, **options)
                assert result["ids"].tolist() == wanted
                assert answered.answer.text == translator.shown(wanted)
                written.add(tuple(wanted))
    assert len(written) > len(TEXTS) // 2, "every text is translated alike"
    assert len(set(map(len, written))) > 1, "every translation is as long as the others"


@pytest.mark.parametrize("name", MODELS)
async def test_it_writes_what_transformers_writes(name: str, tmp_path: Path) -> None:
    translator = MODELS[name](tmp_path / "tokenizer")
    model = copy.deepcopy(translator.model)  # the exporter changes settings of what it exports
    folder = export_directory(model, translator.tokenizer, tmp_path / "m", WITH_PAST)
    await compare(translator, folder)


async def test_every_set_of_graphs_is_served(tmp_path: Path) -> None:
    translator = translators.marian(tmp_path / "tokenizer")
    model = copy.deepcopy(translator.model)
    folder = export_directory(model, translator.tokenizer, tmp_path / "m", WITH_PAST)
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
                works = [family.preprocess(TranslateItem(t, num_beams=num_beams)) for t in TEXTS]
                results = loaded.instances.infer(family.infer, works, alone=False)
                assert [result["ids"].tolist() for result in results] == [
                    translator.generated(text, num_beams=num_beams) for text in TEXTS
                ]
