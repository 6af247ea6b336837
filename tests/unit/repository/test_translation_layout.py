"""What is inferred from a translator's export directory, and which keys are required."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelLoadError
from service.repository.layouts.inference import infer
from tests.sentences import sentence

MARIAN = {
    "model_type": "marian",
    "architectures": ["MarianMTModel"],
    "max_position_embeddings": 512,
    "_name_or_path": "Helsinki-NLP/opus-mt-zh-en",
}
GENERATION = {
    "decoder_start_token_id": 9,
    "eos_token_id": 0,
    "pad_token_id": 9,
    "bad_words_ids": [[9]],
    "max_length": 512,
    "num_beams": 4,
    "forced_eos_token_id": 0,
}
MANY = {**MARIAN, "model_type": "m2m_100", "_name_or_path": ""}
T5 = {"model_type": "t5", "n_positions": 512}
SPM = ("source.spm", "target.spm")
MERGED = ("encoder_model", "decoder_model_merged")


def directory(
    folder: Path,
    config: Mapping[str, Any],
    *names: str,
    graphs: tuple[str, ...] = MERGED,
    **tables: Any,
) -> Path:
    """Write tables as JSON, other files and graphs empty."""
    everything = {"config": config, "generation_config": GENERATION, **tables}
    for name, table in everything.items():
        if table is not None:
            (folder / f"{name}.json").write_text(json.dumps(table))
    for name in (*names, *(f"{graph}.onnx" for graph in graphs)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def told(folder: Path, said: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = infer(folder, said).table["parameters"]
    return parameters


def test_an_opus_model_tells_its_languages_by_its_name(tmp_path: Path) -> None:
    folder = directory(tmp_path, MARIAN, *SPM, vocab={"</s>": 0})
    found = infer(folder)
    assert (found.table["task"], found.table["family"]) == ("translate", "encoder_decoder")
    parameters = found.table["parameters"]
    assert (parameters["source_language"], parameters["target_language"]) == ("zh", "en")
    assert found.sources["parameters.source_language"] == "config.json: _name_or_path"
    assert parameters["rules"] == {
        "eos_ids": [0], "start_id": 9, "bad_words": [[9]], "forced_eos_id": 0,
    }  # fmt: skip
    assert (parameters["num_beams"], parameters["max_new_tokens"]) == (4, 511)
    assert parameters["tokenizer_files"] == ["source.spm", "target.spm", "vocab.json"]


def test_a_model_of_no_such_name_is_asked_for_its_languages(tmp_path: Path) -> None:
    config = {**MARIAN, "_name_or_path": "/home/me/model"}
    folder = directory(tmp_path, config, *SPM, vocab={"</s>": 0})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)
    said = {"parameters": {"source_language": "zh", "target_language": "en"}}
    assert "source_language" not in told(folder, said)


def test_a_model_for_several_languages_is_told_by_its_vocabulary(tmp_path: Path) -> None:
    config = {**MARIAN, "_name_or_path": "Helsinki-NLP/opus-mt-en-ROMANCE"}
    folder = directory(tmp_path, config, *SPM, vocab={"</s>": 0, ">>fr<<": 1, ">>pt_br<<": 2})
    found = told(folder)
    assert found["languages"] == {"fr": ">>fr<<", "pt_br": ">>pt_br<<"}
    assert (found["template"], found["target_language"]) == ("target_eos", "ROMANCE")


def test_graphs_are_found_by_precision_and_by_their_cache(tmp_path: Path) -> None:
    graphs = tuple(f"onnx/{name}{end}" for name in MERGED for end in ("", "_quantized"))
    folder = directory(tmp_path, MARIAN, *SPM, graphs=graphs, vocab={})
    found = infer(folder).table
    assert set(found["graphs"]) == {"fp32", "int8"}
    assert found["graphs"]["int8"]["decoder"] == "onnx/decoder_model_merged_quantized.onnx"
    assert found["parameters"]["cache"] == "merged"


@pytest.mark.parametrize(
    ("key", "as_listed"),
    [
        ("additional_special_tokens", list),
        ("extra_special_tokens", list),  # since transformers 5
        ("extra_special_tokens", lambda tokens: dict(enumerate(tokens))),
    ],
)
def test_languages_are_the_tokens_that_the_tokenizer_lists(
    key: str, as_listed: Any, tmp_path: Path
) -> None:
    tokenizer = {
        "tokenizer_class": "NllbTokenizer",
        "src_lang": "eng_Latn",
        key: as_listed(["ace_Arab", "eng_Latn", "<other>"]),
    }
    folder = directory(tmp_path, MANY, "tokenizer.json", tokenizer_config=tokenizer)
    found = told(folder)
    assert found["languages"] == {"ace_Arab": "ace_Arab", "eng_Latn": "eng_Latn"}
    assert (found["template"], found["source_language"]) == ("source_eos", "eng_Latn")
    legacy = {**tokenizer, "legacy_behaviour": True}
    assert told(directory(tmp_path, MANY, tokenizer_config=legacy))["template"] == "eos_source"


def test_languages_that_no_file_lists_are_asked_for(tmp_path: Path) -> None:
    tokenizer = {"tokenizer_class": "NllbTokenizer"}
    folder = directory(tmp_path, MANY, "tokenizer.json", tokenizer_config=tokenizer)
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)


def test_a_t5_needs_to_know_what_to_write_before_a_text(tmp_path: Path) -> None:
    folder = directory(tmp_path, T5, "tokenizer.json")
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder, {"task": "translate"})
    task = {"prefix": "translate English to German: ", "max_length": 300, "num_beams": 2}
    config = {**T5, "task_specific_params": {"translation_en_to_de": task}}
    found = told(directory(tmp_path, config))
    assert found["prefixes"] == {"en-de": "translate English to German: "}
    assert (found["max_new_tokens"], found["num_beams"]) == (299, 2)


def test_without_a_generation_config_config_json_says_how_to_write(tmp_path: Path) -> None:
    folder = directory(tmp_path, {**MARIAN, **GENERATION}, *SPM, vocab={}, generation_config=None)
    found = infer(folder)
    assert found.table["parameters"]["num_beams"] == 4
    assert found.sources["parameters.num_beams"] == "config.json: num_beams"


def test_without_a_length_transformers_own_is_taken(tmp_path: Path) -> None:
    generation = {**GENERATION, "max_length": 20}
    folder = directory(tmp_path, MARIAN, *SPM, vocab={}, generation_config=generation)
    assert told(folder)["max_new_tokens"] == 20


@pytest.mark.parametrize(
    "tables",
    [
        {"generation_config": {**GENERATION, "num_beam_groups": 2}},
        {"tokenizer_config": {"separate_vocabs": True}},
        {"generation_config": {"eos_token_id": 0}},
        {"vocab": []},
    ],
)
def test_what_is_not_served_is_refused(tables: dict[str, Any], tmp_path: Path) -> None:
    folder = directory(tmp_path, MARIAN, *SPM, **{"vocab": {}, **tables})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)


def test_a_t5_whose_pieces_are_cut_otherwise_is_refused(tmp_path: Path) -> None:
    folder = directory(tmp_path, T5, "spiece.model", tokenizer_config={"legacy": False})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)
    assert told(directory(tmp_path, T5, "tokenizer.json"), {"parameters": {"prefixes": {}}})


def test_a_tokenizer_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        infer(directory(tmp_path, MARIAN))
