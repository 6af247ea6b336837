"""Translators of transformers in flight: what their searches hold to, and what warm-up costs."""

from pathlib import Path
from typing import Any

import pytest

from service.families import FAMILIES
from service.families.translation.in_flight import search_rules
from service.families.translation.search.rules import TokenRules
from service.repository.manifest import read_parameters
from service.tasks import TranslateItem
from tests.sentences import sentence
from tests.unit.families.cases import CASES, EOS
from tests.unit.transforms.texts import word_tokenizer

TOKENS = ["eng_Latn", "fra_Latn", "zho_Hans"]
RULES = TokenRules(1, (EOS,), bad_words=((7,), (5, 6)), suppressed=(9,))


def opened(folder: Path, **parameters: Any) -> Any:
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens(TOKENS)
    tokenizer.save(str(folder / "tokenizer.json"))
    entry = FAMILIES["encoder_decoder_steps"]
    own = {"tokenizer_files": ["tokenizer.json"]}
    table = {**CASES["encoder_decoder_steps"].parameters, **own, **parameters}
    return entry.open(folder, read_parameters(table, entry.parameters))


def test_every_sentence_begins_with_its_own_language(tmp_path: Path) -> None:
    languages = {token: token for token in TOKENS}
    family = opened(tmp_path, template="source_eos", languages=languages)
    for target in ("fra_Latn", "zho_Hans"):
        work: Any = family.processor.preprocess(TranslateItem("one", source="en", target=target))
        decoding = family.model.open_rows().decoding(work)
        assert decoding.first_id == family.processor.subwords.id_of(target)


def test_without_languages_a_sentence_begins_as_it_likes(tmp_path: Path) -> None:
    family = opened(tmp_path)
    work = family.processor.preprocess(TranslateItem("one"))
    assert family.model.open_rows().decoding(work).first_id is None


def test_the_least_length_is_that_of_the_rules_without_the_start(tmp_path: Path) -> None:
    rules = {"start_id": 1, "eos_ids": [EOS], "min_length": 5}
    family = opened(tmp_path, rules=rules)
    work = family.processor.preprocess(TranslateItem("one"))
    assert family.model.open_rows().decoding(work).min_new_tokens == 4


def test_graphs_that_renormalize_are_for_rules_that_do(tmp_path: Path) -> None:
    rules = {"start_id": 1, "eos_ids": [EOS], "bad_words": [[9]]}
    asking = {**rules, "renormalize": True}
    opened(tmp_path, rules=asking, forbidden=[9], renormalized=True)
    for said, renormalized in ((asking, False), (rules, True)):
        with pytest.raises(ValueError, check=sentence):
            opened(tmp_path, rules=said, forbidden=[9], renormalized=renormalized)
    opened(tmp_path, rules={**asking, "bad_words": []})  # there is nothing to renormalize


def test_the_language_that_a_model_is_forced_to_is_its_usual_target(tmp_path: Path) -> None:
    languages = {token: token for token in TOKENS}
    forced = opened(tmp_path).processor.subwords.id_of("zho_Hans")
    rules = {"start_id": 1, "eos_ids": [EOS], "forced_bos_id": forced}
    family = opened(
        tmp_path, template="source_eos", languages=languages, rules=rules, target_language=None
    )
    work: Any = family.processor.preprocess(TranslateItem("one", source="fra_Latn"))
    assert family.model.open_rows().decoding(work).first_id == forced


def test_warm_up_reads_no_more_and_writes_less_than_there_may_be(tmp_path: Path) -> None:
    family = opened(tmp_path, max_source_length=8192, max_target_length=8192)
    (lane,) = family.model.lanes
    assert lane.lengths == [8, 16, 32, 64, 128, 256, 512]
    probe: Any = family.model.probe(lane.name, 512)
    assert len(probe.tensors["input_ids"]) == 512
    assert probe.group.max_new_tokens == probe.group.min_new_tokens == 8


def test_what_the_graph_forbids_need_not_be_looked_for() -> None:
    assert search_rules(RULES).bans.always == (7, 9)
    by_graph = search_rules(RULES, forbidden=(7, 9)).bans
    assert by_graph.always == ()
    assert by_graph.bad_words == ((5, 6),)


@pytest.mark.parametrize(
    ("rules", "forbidden"),
    [
        (RULES, (7, 11, 12)),
        (TokenRules(1, (2, 3)), ()),
        (TokenRules(1, (2,), suppressed_first=(4,)), ()),
        (TokenRules(1, (2,), encoder_no_repeat_ngram_size=2), ()),
        (TokenRules(1, (2,), sequence_bias=(((4,), 1.0),)), ()),
        (TokenRules(1, (2,), exponential_decay=(4, 1.1)), ()),
        (TokenRules(1, (2,), renormalize=True, min_length=4), ()),
        (TokenRules(1, (2,), repetition_penalty=0.5), ()),
    ],
)
def test_rules_that_cannot_be_held_to_are_refused(
    rules: TokenRules, forbidden: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, check=sentence):
        search_rules(rules, forbidden)
