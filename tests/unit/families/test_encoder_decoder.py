"""Translators as Optimum writes them: caches, languages, limits. Tokens: tests/exports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidInputError, ModelLoadError
from service.families import FAMILIES
from service.families.translation.options import result_of
from service.families.translation.search.decoding import Hypothesis
from service.families.translation.search.rules import UNFORCED, Texts, TokenRules
from service.repository.manifest import read_parameters
from service.tasks import TranslateItem
from service.transforms.language.languages import meant_by
from tests.sentences import sentence
from tests.unit.families.cases import CASES, EOS, TARGET_VOCABULARY, TEXTS
from tests.unit.families.exported_translator import ExportedTranslator
from tests.unit.transforms.texts import word_tokenizer

TOKENS = ["eng_Latn", "zho_Hans", "zho_Hant", "fra_Latn"]


def opened(folder: Path, **parameters: Any) -> Any:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens([*TOKENS, ">>fra<<", ">>deu<<"])
    tokenizer.save(str(folder / "tokenizer.json"))
    table: Mapping[str, Any] = {**CASES["encoder_decoder"].parameters, **parameters}
    entry = FAMILIES["encoder_decoder"]
    return entry.open(folder, read_parameters(table, entry.parameters))


def many(folder: Path, **parameters: Any) -> Any:
    languages = {token: token for token in TOKENS}
    return opened(folder, template="source_eos", languages=languages, **parameters)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_all_kinds_of_caches_write_the_same(num_beams: int, tmp_path: Path) -> None:
    translator = ExportedTranslator(TARGET_VOCABULARY, EOS, 1.0)
    found = []
    for kind in ("none", "pair", "merged"):
        family = opened(tmp_path, cache=kind)
        works = [
            family.processor.preprocess(TranslateItem(text, num_beams=num_beams)) for text in TEXTS
        ]
        results = family.model.infer(translator.sessions_of(kind), works)
        found.append([result["ids"].tolist() for result in results])
    assert found[0] == found[1] == found[2]
    assert len({len(ids) for ids in found[0]}) > 2, "all sentences end together"


def test_a_cache_is_fed_one_token_a_step_and_none_is_fed_them_all(tmp_path: Path) -> None:
    translator = ExportedTranslator(TARGET_VOCABULARY, EOS, -9.0)
    for kind, widths in (("none", [1, 2, 3, 4]), ("merged", [1, 1, 1, 1])):
        family = opened(tmp_path, cache=kind)
        sessions = translator.sessions_of(kind)  # type: ignore[arg-type]
        family.model.infer(
            sessions, [family.processor.preprocess(TranslateItem("one", max_new_tokens=4))]
        )
        assert [fed["input_ids"][1] for fed in sessions["decoder"].fed] == widths


def test_a_language_stands_where_its_model_wants_it(tmp_path: Path) -> None:
    family = many(tmp_path)
    ids = family.processor.subwords.id_of
    work = family.processor.preprocess(TranslateItem("one", source="zho_Hans", target="fr"))
    assert work.tensors["input_ids"].tolist() == [ids("zho_Hans"), ids("one"), EOS]
    assert int(work.tensors["first_id"]) == ids("fra_Latn")
    languages = {"fra": ">>fra<<", "deu": ">>deu<<"}
    family = opened(tmp_path, template="target_eos", languages=languages, source_language="en")
    work = family.processor.preprocess(TranslateItem("one", target="de"))
    assert work.tensors["input_ids"].tolist() == [
        family.processor.subwords.id_of(">>deu<<"),
        4,
        EOS,
    ]
    assert int(work.tensors["first_id"]) == UNFORCED


def test_a_group_of_languages_needs_no_token(tmp_path: Path) -> None:
    languages = {"fra": ">>fra<<", "deu": ">>deu<<"}
    said = {"languages": languages, "source_language": "en", "target_language": "ROMANCE"}
    family = opened(tmp_path, template="target_eos", **said)
    for target, first in (
        (None, 4),
        ("romance", 4),
        ("fr", family.processor.subwords.id_of(">>fra<<")),
    ):
        work = family.processor.preprocess(TranslateItem("one", target=target))
        assert work.tensors["input_ids"][0] == first


def test_a_plain_code_is_understood_where_it_means_one_language(tmp_path: Path) -> None:
    assert meant_by("pt", ("en_XX", "pt_XX")) == ["pt_XX"]
    family = many(tmp_path)
    item = TranslateItem("one", source="en", target="FR")
    found = [Hypothesis(np.array([4]), True)]
    answer = family.processor.postprocess(result_of(found, family.processor.preprocess(item)), item)
    assert (answer.source, answer.target) == ("eng_Latn", "fra_Latn")
    with pytest.raises(InvalidInputError, check=sentence):
        family.processor.preprocess(TranslateItem("one", source="zh", target="fr"))


def test_languages_that_nobody_names_are_asked_for(tmp_path: Path) -> None:
    family = many(tmp_path, source_language=None, target_language=None)
    with pytest.raises(InvalidInputError, check=sentence):
        family.processor.preprocess(TranslateItem("one", source="en"))


def test_a_prefix_is_chosen_by_the_pair(tmp_path: Path) -> None:
    prefixes = {"en-de": "two ", "en-fr": "three "}
    family = opened(tmp_path, prefixes=prefixes, source_language=None, target_language=None)
    ids = family.processor.preprocess(TranslateItem("one", target="fr")).tensors["input_ids"]
    assert ids.tolist() == [6, 4, EOS]
    for item in (TranslateItem("one"), TranslateItem("a", "de")):
        with pytest.raises(InvalidInputError, check=sentence):
            family.processor.preprocess(item)


def test_a_text_that_is_too_long_keeps_its_end_token_and_its_language(tmp_path: Path) -> None:
    family = many(tmp_path, max_source_length=5)
    work = family.processor.preprocess(TranslateItem("one " * 9, source="en", target="fr"))
    assert work.tensors["input_ids"].tolist() == [
        family.processor.subwords.id_of("eng_Latn"),
        4,
        4,
        4,
        EOS,
    ]
    assert work.tensors["is_cut"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": "source_eos"},
        {"source_language": None},
        {"prefixes": {"ende": ""}},
        {"rules": {"start_id": 1, "eos_ids": []}},
        {"num_beams": 99},
    ],
)
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        opened(tmp_path, **wrong)


def test_a_language_that_the_tokenizer_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lat_Latn"):
        opened(tmp_path, template="source_eos", languages={"la": "lat_Latn"})


SCORES = np.zeros((1, 6), np.float32)


def forbidden(rules: TokenRules, history: list[int], limit: int = 99) -> list[int]:
    texts = Texts(np.array([UNFORCED]), [np.array([4, 5, 2])])
    scores = rules.applied(SCORES, np.array([history]), texts, limit)
    return np.flatnonzero(np.isneginf(scores[0])).tolist()


def test_rules_forbid_what_they_say() -> None:
    free = {"start_id": 1, "eos_ids": (2,)}
    assert forbidden(TokenRules(**free), [1, 3]) == []
    assert forbidden(TokenRules(**free, no_repeat_ngram_size=2), [1, 3, 4, 3]) == [4]
    assert forbidden(TokenRules(**free, no_repeat_ngram_size=1), [1, 3, 4, 3]) == [1, 3, 4]
    assert forbidden(TokenRules(**free, no_repeat_ngram_size=3), [1, 3]) == []
    assert forbidden(TokenRules(**free, bad_words=((0,), (2,), (3, 5))), [1, 3]) == [0, 5]
    assert forbidden(TokenRules(**free, bad_words=((1, 3, 5),)), [1, 3]) == []
    assert forbidden(TokenRules(**free, min_length=3), [1, 3]) == [2]
    assert forbidden(TokenRules(**free, suppressed=(4,), suppressed_first=(5,)), [1]) == [4, 5]
    assert forbidden(TokenRules(**free, suppressed_first=(5,)), [1, 3]) == []
    assert forbidden(TokenRules(**free, forced_eos_id=2), [1, 3], limit=3) == [0, 1, 3, 4, 5]
    assert forbidden(TokenRules(**free, encoder_no_repeat_ngram_size=1), [1, 3]) == [2, 4, 5]
    assert forbidden(TokenRules(**free, encoder_no_repeat_ngram_size=2), [1, 4]) == [5]
    assert forbidden(TokenRules(**free, encoder_no_repeat_ngram_size=4), [1, 4]) == []
    everything = tuple((token,) for token in range(6) if token != 2)
    lone = TokenRules(**free, bad_words=everything, min_length=9, renormalize=True)
    assert forbidden(lone, [1, 3]) == [0, 1, 2, 3, 4, 5]


def test_a_forced_first_token_is_forced_in_its_own_row_only() -> None:
    rules = TokenRules(1, (2,))
    scores = rules.applied(
        np.zeros((2, 4), np.float32),
        np.array([[1], [1]]),
        Texts(np.array([3, UNFORCED]), [np.zeros(0, np.int64)] * 2),
        9,
    )
    assert scores.argmax(axis=1).tolist() == [3, 0]


def test_a_repeated_token_is_discouraged_whatever_its_sign() -> None:
    scores = np.array([[2.0, -2.0, 1.0]], np.float32)
    rules = TokenRules(0, (2,), repetition_penalty=2.0)
    texts = Texts(np.array([UNFORCED]), [np.zeros(0, np.int64)])
    found = rules.applied(scores, np.array([[0, 1, 1]]), texts, 9)
    assert found.tolist() == [[1.0, -4.0, 1.0]]
