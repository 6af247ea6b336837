"""Translators: a tokenizer for each side, decoding options, languages and limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidInputError, ModelLoadError
from service.families import FAMILIES
from service.families.translation.search.decoding import Decoding
from service.repository.manifest import read_parameters
from service.tasks import TranslateItem, Translation
from service.types import PreparedItem
from tests.sentences import sentence
from tests.unit.families.cases import CASES, EOS, TARGET_VOCABULARY, TEXTS, target_tokenizer
from tests.unit.families.exported_translator import ExportedTranslator
from tests.unit.families.reference_search import reference_beams, reference_greedy
from tests.unit.transforms.texts import word_tokenizer

START = 1
TOKENIZERS = ["source_tokenizer.json", "target_tokenizer.json"]


@pytest.fixture
def family(tmp_path: Path) -> Any:
    return opened(tmp_path)


def opened(folder: Path, **changes: Any) -> Any:
    for name, tokenizer in zip(TOKENIZERS, (word_tokenizer(), target_tokenizer()), strict=True):
        tokenizer.save(str(folder / name))
    entry = FAMILIES["encoder_decoder"]
    table = {
        **CASES["encoder_decoder"].parameters,
        "rules": {"start_id": START, "eos_ids": [EOS]},
        "tokenizer_files": TOKENIZERS,
        **changes,
    }
    return entry.open(folder, read_parameters(table, entry.parameters))


def works(family: Any, **options: Any) -> list[PreparedItem]:
    return [family.processor.preprocess(TranslateItem(text, **options)) for text in TEXTS]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_beams", [1, 2, 3, 8])
def test_cached_steps_find_what_the_definition_finds(
    family: Any, num_beams: int, seed: int
) -> None:
    graphs = ExportedTranslator(TARGET_VOCABULARY, EOS, 1.0, seed)
    find = reference_greedy if num_beams == 1 else reference_beams
    batch = works(family, num_beams=num_beams)
    for work, result in zip(
        batch, family.model.infer(graphs.sessions_of("merged"), batch), strict=True
    ):
        ids, is_complete = find(
            lambda prefix, source=work.tensors["input_ids"]: graphs.next_logprobs(source, prefix),
            Decoding(num_beams, 1.0, 20),
            START,
            EOS,
        )
        assert result["ids"].tolist() == ids
        assert bool(result["is_truncated"]) == (work.tensors["is_cut"] or not is_complete)


def test_rows_leave_the_decoder_as_their_sentences_finish(family: Any) -> None:
    sessions = ExportedTranslator(TARGET_VOCABULARY, EOS, 1.0).sessions_of("merged")
    family.model.infer(sessions, works(family, num_beams=3))
    rows = [fed["input_ids"][0] for fed in sessions["decoder"].fed]
    assert len(sessions["encoder"].fed) == 1
    assert rows[:2] == [len(TEXTS), 3 * len(TEXTS)]
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < rows[1]


def test_an_items_parameters_make_its_group(family: Any) -> None:
    def group(**options: Any) -> object:
        return family.processor.preprocess(TranslateItem("one", **options)).group

    assert group() == Decoding(3, 1.0, 20)
    assert group(num_beams=2, length_penalty=0.5, max_new_tokens=7) == Decoding(2, 0.5, 7)
    assert group(max_new_tokens=10**9) == Decoding(3, 1.0, 20)
    assert group(num_beams=1, length_penalty=0.5) == group(num_beams=1)  # greedy ignores it


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 0},
        {"num_beams": 9},
        {"num_beams": -1},
        {"max_new_tokens": 0},
        {"max_new_tokens": -5},
        {"length_penalty": float("nan")},
        {"length_penalty": float("inf")},
        {"length_penalty": -1e300},
    ],
)
def test_parameters_out_of_range_are_refused(family: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        family.processor.preprocess(TranslateItem("one", **options))


def test_only_the_models_own_languages_are_translated(family: Any) -> None:
    family.processor.preprocess(TranslateItem("one", "zh", "en"))
    for source, target in (("en", "zh"), ("zh", "de"), ("fr", None), (None, "fr")):
        with pytest.raises(InvalidInputError, check=sentence):
            family.processor.preprocess(TranslateItem("one", source, target))


def answered(family: Any, item: TranslateItem, eos_bias: float) -> Translation:
    sessions = ExportedTranslator(TARGET_VOCABULARY, EOS, eos_bias).sessions_of("merged")
    result = family.model.infer(sessions, [family.processor.preprocess(item)])[0]
    return family.processor.postprocess(result, item)


def test_a_translation_is_decoded_with_the_target_tokenizer(family: Any) -> None:
    found = answered(family, TranslateItem("one two", max_new_tokens=3), eos_bias=-50.0)
    assert (found.source, found.target) == ("zh", "en")
    assert len(found.text.split()) <= 3
    known = set(target_tokenizer().get_vocab())
    assert all(word in known for word in found.text.split())
    assert any(word.startswith("word") for word in found.text.split())


def test_a_translation_says_when_it_is_cut(family: Any) -> None:
    greedy = TranslateItem("one two", num_beams=1)
    assert not answered(family, greedy, eos_bias=50.0).truncated
    assert answered(family, greedy, eos_bias=-50.0).truncated
    too_long = TranslateItem("one " * 30, num_beams=1)
    assert answered(family, too_long, eos_bias=50.0).truncated
    just_fits = TranslateItem("one " * 23, num_beams=1)
    assert not answered(family, just_fits, eos_bias=50.0).truncated


def test_an_end_at_once_is_an_empty_text(family: Any) -> None:
    assert answered(family, TranslateItem("one"), eos_bias=1e4).text == ""


def test_a_probe_takes_as_many_steps_as_it_is_long(family: Any) -> None:
    for length, steps in ((8, 8), (24, 20)):  # 20 is the longest translation
        sessions = ExportedTranslator(TARGET_VOCABULARY, EOS, 50.0).sessions_of("merged")
        family.model.infer(sessions, [family.model.probe("default", length)] * 2)
        assert len(sessions["decoder"].fed) == steps
        assert sessions["encoder"].fed[0]["input_ids"] == (2, length)
    assert np.array_equal(family.model.lanes[0].lengths, [8, 16, 24])


@pytest.mark.parametrize(
    "changes",
    [
        {"num_beams": 0},
        {"num_beams": 99},
        {"max_target_length": 0},
        {"length_penalty": 1e9},
    ],
)
def test_a_manifest_out_of_range_does_not_load(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        opened(tmp_path, **changes)


def test_tokenizers_that_cannot_be_read_do_not_load(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")
    for name in ("../tokenizer.json", "/etc/passwd", "absent.json", "broken.json"):
        for files in ([name, TOKENIZERS[1]], [TOKENIZERS[0], name]):
            with pytest.raises(ModelLoadError):
                opened(tmp_path, tokenizer_files=files)
