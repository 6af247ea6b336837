"""Translation: the decoder loop over cached steps, and what goes round it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidInputError, ModelLoadError
from service.families.translation.search.hypotheses import Decoding
from service.families.translation.seq2seq import Seq2Seq
from service.families.translation.starter_texts import TranslationParameters
from service.repository.manifest import read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import TranslateItem, Translation
from service.types import PreparedItem, Sessions
from tests.unit.families.cases import CASES, EOS, TARGET_VOCABULARY, TEXTS, target_tokenizer
from tests.unit.families.graphs import save_decoder, save_encoder
from tests.unit.families.reference_search import reference_beams, reference_greedy
from tests.unit.families.sessions import TranslatorGraphs
from tests.unit.transforms.texts import word_tokenizer

START = 1


@pytest.fixture
def family(tmp_path: Path) -> Seq2Seq:
    return opened(tmp_path)


def opened(folder: Path, **changes: Any) -> Seq2Seq:
    word_tokenizer().save(str(folder / "source_tokenizer.json"))
    target_tokenizer().save(str(folder / "target_tokenizer.json"))
    parameters = read_parameters({**CASES["seq2seq"].parameters, **changes}, TranslationParameters)
    return Seq2Seq.open(folder, parameters)


def works(family: Seq2Seq, **options: Any) -> list[PreparedItem]:
    return [family.preprocess(TranslateItem(text, **options)) for text in TEXTS]


def definition(graphs: TranslatorGraphs, work: PreparedItem) -> tuple[list[int], bool]:
    decoding = work.group
    assert isinstance(decoding, Decoding)
    source = work.tensors["input_ids"]
    find = reference_greedy if decoding.num_beams == 1 else reference_beams
    return find(lambda prefix: graphs.next_logprobs(source, prefix), decoding, START, EOS)


def check(family: Seq2Seq, sessions: Sessions, graphs: TranslatorGraphs, num_beams: int) -> None:
    batch = works(family, num_beams=num_beams)
    for work, result in zip(batch, family.infer(sessions, batch), strict=True):
        ids, is_complete = definition(graphs, work)
        assert result["ids"].tolist() == ids
        assert bool(result["is_truncated"]) == (work.tensors["is_cut"] or not is_complete)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_beams", [1, 2, 3, 8])
def test_cached_steps_find_what_the_definition_finds(
    family: Seq2Seq, num_beams: int, seed: int
) -> None:
    graphs = TranslatorGraphs(TARGET_VOCABULARY, EOS, 1.0, seed)
    check(family, graphs.sessions, graphs, num_beams)


@pytest.mark.looptime(False)
@pytest.mark.parametrize("num_beams", [1, 4])
def test_real_graphs_find_what_the_definition_finds(
    family: Seq2Seq, tmp_path: Path, num_beams: int
) -> None:
    graphs = TranslatorGraphs(TARGET_VOCABULARY, EOS, 1.0)
    paths = {
        "encoder": save_encoder(graphs, tmp_path / "encoder_model.onnx"),
        "decoder": save_decoder(graphs, tmp_path / "decoder_model.onnx"),
    }
    sessions = {name: OrtSession(path, Device("cpu"), 1) for name, path in paths.items()}
    check(family, sessions, graphs, num_beams)


def test_rows_leave_the_decoder_as_their_sentences_finish(family: Seq2Seq) -> None:
    sessions = TranslatorGraphs(TARGET_VOCABULARY, EOS, 1.0).sessions
    family.infer(sessions, works(family, num_beams=3))
    rows = [fed["input_ids"][0] for fed in sessions["decoder"].fed]
    assert len(sessions["encoder"].fed) == 1
    assert rows[:2] == [len(TEXTS), 3 * len(TEXTS)]
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < rows[1]
    pasts = [fed["past.0.key"][2] for fed in sessions["decoder"].fed]
    assert pasts == list(range(len(pasts)))


def test_an_items_parameters_make_its_group(family: Seq2Seq) -> None:
    def group(**options: Any) -> object:
        return family.preprocess(TranslateItem("one", **options)).group

    assert group() == Decoding(3, 1.0, 20)
    assert group(num_beams=2, length_penalty=0.5, max_new_tokens=7) == Decoding(2, 0.5, 7)
    assert group(max_new_tokens=10**9) == Decoding(3, 1.0, 20)
    assert group(num_beams=1, length_penalty=0.5) == group(num_beams=1)  # of no use to greedy


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
def test_parameters_out_of_range_are_refused(family: Seq2Seq, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        family.preprocess(TranslateItem("one", **options))


def test_only_the_models_own_languages_are_translated(family: Seq2Seq) -> None:
    family.preprocess(TranslateItem("one", "zh", "en"))
    for source, target in (("en", "zh"), ("zh", "de"), ("fr", None), (None, "fr")):
        with pytest.raises(InvalidInputError, match="from 'zh' to 'en', not from"):
            family.preprocess(TranslateItem("one", source, target))


def answered(family: Seq2Seq, item: TranslateItem, eos_bias: float) -> Translation:
    sessions = TranslatorGraphs(TARGET_VOCABULARY, EOS, eos_bias).sessions
    result = family.infer(sessions, [family.preprocess(item)])[0]
    return family.postprocess(result, item)


def test_a_translation_is_text_in_the_target_language(family: Seq2Seq) -> None:
    found = answered(family, TranslateItem("one two", max_new_tokens=3), eos_bias=-50.0)
    assert (found.source, found.target) == ("zh", "en")
    assert len(found.text.split()) <= 3
    known = set(target_tokenizer().get_vocab())
    assert all(word in known for word in found.text.split())


def test_a_translation_says_when_it_is_cut(family: Seq2Seq) -> None:
    greedy = TranslateItem("one two", num_beams=1)
    assert not answered(family, greedy, eos_bias=50.0).truncated
    assert answered(family, greedy, eos_bias=-50.0).truncated
    too_long = TranslateItem("one " * 30, num_beams=1)
    assert answered(family, too_long, eos_bias=50.0).truncated
    just_fits = TranslateItem("one " * 22, num_beams=1)
    assert not answered(family, just_fits, eos_bias=50.0).truncated


def test_an_end_at_once_is_an_empty_text(family: Seq2Seq) -> None:
    assert answered(family, TranslateItem("one"), eos_bias=1e4).text == ""


def test_a_probe_takes_as_many_steps_as_it_is_long(family: Seq2Seq) -> None:
    for length, steps in ((8, 8), (24, 20)):  # 20 is the longest translation
        sessions = TranslatorGraphs(TARGET_VOCABULARY, EOS, 50.0).sessions
        family.infer(sessions, [family.probe("default", length)] * 2)
        assert len(sessions["decoder"].fed) == steps
        assert sessions["encoder"].fed[0]["input_ids"] == (2, length)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 99}, "num_beams"),
        ({"max_target_length": 0}, "max_new_tokens"),
        ({"length_penalty": 1e9}, "length_penalty"),
    ],
)
def test_a_manifest_out_of_range_does_not_load(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelLoadError, match=said):
        opened(tmp_path, **changes)


def test_a_source_length_without_room_for_text_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="special tokens"):
        opened(tmp_path, max_source_length=2)


def test_tokenizers_outside_the_folder_do_not_load(tmp_path: Path) -> None:
    for name in ("../tokenizer.json", "/etc/passwd", "absent.json"):
        with pytest.raises(ModelLoadError):
            opened(tmp_path, tokenizer=name)
        with pytest.raises(ModelLoadError):
            opened(tmp_path, target_tokenizer=name)


def test_a_family_cannot_be_changed(family: Seq2Seq) -> None:
    with pytest.raises(AttributeError):
        family.parameters = replace(family.parameters, num_beams=2)  # type: ignore[misc]
    assert np.array_equal(family.lanes[0].lengths, [8, 16, 24])
