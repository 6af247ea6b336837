"""What is inferred from the export directory of a model that writes texts from others."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelLoadError
from service.repository.layouts.inference import infer
from tests.sentences import sentence
from tests.unit.repository.test_translation_layout import T5, directory

LARGE_CNN = {
    "bos_token_id": 0,
    "decoder_start_token_id": 2,
    "early_stopping": True,
    "eos_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "length_penalty": 2.0,
    "max_length": 142,
    "min_length": 56,
    "no_repeat_ngram_size": 3,
    "num_beams": 4,
    "pad_token_id": 1,
}
BART = {"model_type": "bart", "max_position_embeddings": 1024, "bos_token_id": 0}
SUMMARY = {"summarization": {"prefix": "summarize: ", "num_beams": 2, "min_length": 30}}
GERMAN = {"translation_en_to_de": {"prefix": "translate English to German: "}}


def test_a_bart_is_searched_as_its_generation_config_says(tmp_path: Path) -> None:
    folder = directory(tmp_path, BART, "tokenizer.json", generation_config=LARGE_CNN)
    table = infer(folder).table
    assert (table["task"], table["family"]) == ("generate", "generator")
    found = table["parameters"]
    assert found["rules"] == {
        "start_id": 2,
        "eos_ids": [2],
        "early_stopping": True,
        "no_repeat_ngram_size": 3,
        "forced_bos_id": 0,
        "forced_eos_id": 2,
        "min_length": 56,
    }
    assert (found["before"], found["pad_id"], found["max_source_length"]) == ([0], 1, 1024)
    assert (found["num_beams"], found["length_penalty"], found["max_new_tokens"]) == (4, 2.0, 141)


def test_a_t5_for_one_task_has_its_prefix_and_options(tmp_path: Path) -> None:
    config = {**T5, "task_specific_params": SUMMARY}
    found = infer(directory(tmp_path, config, "tokenizer.json")).table
    assert found["family"] == "generator"
    assert found["parameters"]["prefix"] == "summarize: "
    assert found["parameters"]["num_beams"] == 2
    assert found["parameters"]["rules"]["min_length"] == 30


@pytest.mark.parametrize(
    ("tasks", "said", "family"),
    [
        ({}, {}, "generator"),
        (SUMMARY, {}, "generator"),
        ({**SUMMARY, **GERMAN}, {}, "encoder_decoder"),
        ({**SUMMARY, **GERMAN}, {"task": "generate"}, "generator"),
        ({}, {"parameters": {"prefixes": {"en-de": ""}}}, "encoder_decoder"),
        (SUMMARY, {"task": "translate", "parameters": {"prefixes": {}}}, "encoder_decoder"),
    ],
)
def test_a_t5_is_a_translator_if_its_files_or_its_manifest_say_so(
    tasks: Any, said: Any, family: str, tmp_path: Path
) -> None:
    folder = directory(tmp_path, {**T5, "task_specific_params": tasks}, "tokenizer.json")
    assert infer(folder, said).table["family"] == family


def test_what_would_change_texts_and_is_not_served_is_refused(tmp_path: Path) -> None:
    config = {**LARGE_CNN, "num_beam_groups": 2}
    folder = directory(tmp_path, BART, "tokenizer.json", generation_config=config)
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)


def test_a_bart_needs_a_tokenizer_file(tmp_path: Path) -> None:
    folder = directory(tmp_path, BART, "vocab.json", "merges.txt", generation_config=LARGE_CNN)
    with pytest.raises(ModelLoadError, match=r"parameters\.tokenizer_files"):
        infer(folder)
