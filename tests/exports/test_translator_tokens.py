"""Tokens of translators' own files, without a tokenizer.json, against transformers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

from service.repository.layouts.inference import infer
from service.transforms.language.subwords import open_subwords
from tests.exports import translators
from tests.exports.translators import TEXTS, Translator, valid

pytestmark = [
    pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MORE = [
    *TEXTS,
    "  leading and trailing  ",
    "<s> <pad></s>x<mask> y",
    "__de__ eng_Latn fr_XX >>fra<< <extra_id_0> <extra_id_1>z",
    "\u2581 under\u2581score",
    "0123456789 3.14 $5 100%",
    "ÀÉÎÕÜ Straße İstanbul",
    "\x00\x07control\x7f",
]

SLOW: Mapping[str, Callable[[Path], Translator]] = {
    "Marian": translators.marian,
    "T5": lambda f: translators.t5(f, fast=False),
    "T5 by a tokenizer.json": translators.t5,
    "M2M-100": translators.m2m100,
    "mBART-50": lambda f: translators.mbart50(f, fast=False),
    "mBART-50 by a tokenizer.json": translators.mbart50,
    "NLLB": lambda f: translators.nllb(f, fast=False),
    "NLLB by a tokenizer.json": translators.nllb,
}


def inferred(translator: Translator, folder: Path) -> Mapping[str, Any]:
    """The parameters of a directory with no more of graphs than their names."""
    translator.tokenizer.save_pretrained(folder)
    translator.model.config.save_pretrained(folder)
    translator.model.generation_config.save_pretrained(folder)
    for name in ("encoder_model", "decoder_model_merged"):
        (folder / f"{name}.onnx").touch()
    parameters: Mapping[str, Any] = infer(folder).table["parameters"]
    return parameters


@pytest.mark.parametrize("name", SLOW)
def test_tokens_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    translator = SLOW[name](tmp_path / "tokenizer")
    folder = tmp_path / "m"
    told = inferred(translator, folder)
    assert (told["tokenizer"] == "tokenizers") == name.endswith("json")
    tokens = told.get("languages", {})
    subwords = open_subwords(
        folder, told["tokenizer"], told["tokenizer_files"], list(tokens.values())
    )
    ids = {code: subwords.id_of(token) for code, token in tokens.items()}
    for token, number in zip(tokens.values(), ids.values(), strict=True):
        wanted = translator.tokenizer.convert_tokens_to_ids(token)
        assert number == wanted
    for text in MORE:
        bare = translator.tokenizer(valid(text), add_special_tokens=False).input_ids
        assert subwords.encode(text) == bare, text
        assert subwords.decode(bare) == translator.shown(bare), text


def test_files_that_list_no_languages_are_read_alike(tmp_path: Path) -> None:
    translator = translators.m2m100(tmp_path / "tokenizer", lists_languages=False)
    folder = tmp_path / "m"
    inferred(translator, folder)
    path = folder / "tokenizer_config.json"
    table = json.loads(path.read_text())
    del table["added_tokens_decoder"]
    path.write_text(json.dumps(table))
    told = infer(folder).table["parameters"]
    tokens = list(told["languages"].values())
    subwords = open_subwords(folder, told["tokenizer"], told["tokenizer_files"], tokens)
    for text in MORE:
        bare = translator.tokenizer(valid(text), add_special_tokens=False).input_ids
        assert subwords.encode(text) == bare, text
    assert subwords.id_of("__zu__") == translator.tokenizer.get_lang_id("zu")
