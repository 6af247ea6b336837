"""What every family promises, whatever its architecture. Runs over the whole table."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service import tasks
from service.engine.engine import ItemResult
from service.errors import (
    InvalidInputError,
    ModelLoadError,
)
from service.families import FAMILIES
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.types import PreparedItem, Tensors
from tests.contracts.wire import (
    Submission,
    decode_reply,
    decode_submission,
    encode_reply,
    encode_submission,
)
from tests.sentences import sentence
from tests.unit.families.cases import CASES, Case, batches, item_of


def test_every_case_is_of_a_family_that_exists() -> None:
    assert set(CASES) <= set(FAMILIES)


def same(first: Tensors, second: Tensors) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], strict=True)


def test_neither_padding_nor_neighbours_change_an_answer(
    family: Opened[Any, Any], case: Case
) -> None:
    for batch in batches(family, case.items):
        together = family.model.infer(case.sessions(), batch)
        assert len(batch) > 1
        for work, result in zip(batch, together, strict=True):
            same(result, family.model.infer(case.sessions(), [work])[0])


def test_items_and_results_are_plain_data_that_a_process_can_send(
    family: Opened[Any, Any], case: Case
) -> None:
    for batch in batches(family, case.items):
        sent = [decode_submission(encode_submission(_unwatched(one))).prepared for one in batch]
        results = family.model.infer(case.sessions(), batch)
        for result, again in zip(results, family.model.infer(case.sessions(), sent), strict=True):
            same(result, again)
            reply = decode_reply(encode_reply(ItemResult(again, 0.0, 0.0, 1)))
            assert isinstance(reply, ItemResult)
            same(result, reply.result)


def _unwatched(prepared: PreparedItem) -> Submission:
    return Submission(prepared, None, 0, is_watched=False)


def test_results_come_in_the_order_of_their_works(family: Opened[Any, Any], case: Case) -> None:
    for batch in batches(family, case.items):
        forward = family.model.infer(case.sessions(), batch)
        backward = family.model.infer(case.sessions(), batch[::-1])
        for one, other in zip(forward, reversed(list(backward)), strict=True):
            same(one, other)


def test_the_same_work_twice_has_the_same_result_twice(
    family: Opened[Any, Any], case: Case
) -> None:
    for item in case.items:
        work = family.processor.preprocess(item)
        first, second = family.model.infer(case.sessions(), [work, work])
        same(first, second)


def test_an_empty_item_is_refused(family: Opened[Any, Any], case: Case) -> None:
    assert case.empty
    for item in case.empty:
        with pytest.raises(InvalidInputError, match="empty"):
            family.processor.preprocess(item)


def test_an_item_for_another_family_is_refused(family: Opened[Any, Any], case: Case) -> None:
    for item in case.foreign:
        with pytest.raises(InvalidInputError, check=sentence):
            family.processor.preprocess(item)


def test_an_item_of_another_modality_would_be_refused_by_its_routing(case: Case, name: str) -> None:
    assert {item.modality for item in case.items} == FAMILIES[name].modalities


def test_a_work_says_its_lane_and_length(family: Opened[Any, Any], case: Case) -> None:
    longest = {lane.name: lane.lengths[-1] for lane in family.model.lanes}
    works = [family.processor.preprocess(item) for item in case.items]
    assert all(1 <= work.length <= longest[work.lane] for work in works)
    assert {work.lane for work in works} == set(longest)
    hash(tuple(work.group for work in works))


def test_a_probe_has_the_length_asked_for_and_runs(family: Opened[Any, Any], case: Case) -> None:
    for lane in family.model.lanes:
        assert list(lane.lengths) == sorted(set(lane.lengths))
        for length in lane.lengths:
            probe = family.model.probe(lane.name, length)
            assert (probe.lane, probe.length) == (lane.name, length)
            sessions = case.sessions()
            assert len(family.model.infer(sessions, [probe] * 3)) == 3
            ran = {name for name, session in sessions.items() if session.fed}
            assert ran == set(lane.sessions)


def test_a_probe_and_an_item_of_its_length_look_alike(family: Opened[Any, Any], case: Case) -> None:
    for item in case.items:
        work = family.processor.preprocess(item)
        probe = family.model.probe(work.lane, work.length)
        assert {key: (v.shape, v.dtype) for key, v in probe.tensors.items()} == {
            key: (v.shape, v.dtype) for key, v in work.tensors.items()
        }


def test_an_answer_is_of_the_task(family: Opened[Any, Any], case: Case) -> None:
    for item in case.items:
        result = family.model.infer(case.sessions(), [family.processor.preprocess(item)])[0]
        assert isinstance(family.processor.postprocess(result, item), case.answer)


def test_a_translator_splits_what_it_does_not_read_whole(
    name: str, family: Opened[Any, Any], case: Case
) -> None:
    split = family.traits.split
    assert (split is not None) == (FAMILIES[name].task is tasks.Task.TRANSLATE)
    if split is None:
        return
    short, *_ = case.items
    assert split(short, False) is None
    text = "  one two, three four. " * 100 + "\n\n---\nfour\n"
    item = replace(short, text=text)
    assert family.processor.preprocess(item).tensors["is_cut"]
    document = split(item, False)
    assert document is not None
    pieces = [segment.text for segment in document.segments]
    assert document.joined(pieces) == text
    assert pieces[-1] == "four"
    for piece in pieces:
        assert not family.processor.preprocess(replace(short, text=piece)).tensors["is_cut"]


def test_a_translator_refuses_to_split_what_it_would_refuse_to_translate(
    name: str, family: Opened[Any, Any], case: Case
) -> None:
    if (split := family.traits.split) is not None:
        for item in case.foreign:
            with pytest.raises(InvalidInputError, check=sentence):
                split(item, False)


def test_a_translator_leaves_a_text_without_words_as_it_is(
    family: Opened[Any, Any], case: Case
) -> None:
    split, ask = family.traits.split, family.traits.plan
    if split is None:
        return
    assert ask is not None
    for text in ("42", "2026-11-29", "¥1,299.00", "。", "😀", "\n42\n", " ", "\n", "\ufeff"):
        item = replace(case.items[0], text=text)
        assert split(item, True) is None
        plan = ask(item)
        assert plan is not None
        with pytest.raises(StopIteration) as settled:
            next(plan)
        answer = settled.value.value
        assert (answer.text, answer.finish_reason, answer.truncated) == (text, "stop", False)
        assert answer.source
        assert answer.target
    for item in case.foreign:
        plan = ask(replace(item, text="42"))
        assert plan is not None
        with pytest.raises(InvalidInputError, check=sentence):
            next(plan)


def test_a_translator_lists_the_languages_that_it_translates(
    family: Opened[Any, Any], case: Case
) -> None:
    if family.traits.split is None:
        return
    assert family.traits.languages is not None
    sources, targets = family.traits.languages
    item = case.items[0]
    for source in sources:
        family.processor.preprocess(replace(item, source=source))
    for target in targets:
        family.processor.preprocess(replace(item, target=target))
    assert "absent" not in [*sources, *targets]
    with pytest.raises(InvalidInputError):
        family.processor.preprocess(replace(item, target="absent"))


def test_a_translator_does_not_see_emoji(family: Opened[Any, Any], case: Case) -> None:
    if (ask := family.traits.plan) is None or case.answer is not tasks.Translation:
        return
    item = replace(case.items[0], text="\ufeff😀 on\u200be, 👍🏽 two", protect=("emoji",))
    plan = ask(item)
    assert plan is not None
    assert next(plan).text == "one, two"
    with pytest.raises(StopIteration) as settled:
        plan.send(tasks.Translation("One, two", "zh", "en", False))
    answer = settled.value.value
    assert answer.text.split() == ["😀", "One,", "👍🏽", "two"]
    assert [(term.source, term.is_kept) for term in answer.glossary] == [
        ("😀", True),
        ("👍🏽", True),
    ]


def test_images_and_long_texts_are_heavy_and_short_texts_are_not(
    name: str, family: Opened[Any, Any], case: Case
) -> None:
    for item in case.items:
        assert family.processor.offload(item) == (item.modality == "image")
    if "text" in FAMILIES[name].modalities:
        assert family.processor.offload(item_of(name, "one " * 1000))


def test_many_threads_may_share_a_family(family: Opened[Any, Any], case: Case) -> None:
    sessions = case.sessions()

    def answer(item: Any) -> Tensors:
        return family.model.infer(sessions, [family.processor.preprocess(item)])[0]

    alone = [answer(item) for item in case.items]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            for one, other in zip(alone, threads.map(answer, case.items), strict=True):
                same(one, other)


def test_parameters_come_from_a_manifest_and_unknown_ones_are_refused(
    name: str, case: Case
) -> None:
    parameters = FAMILIES[name].parameters
    assert isinstance(read_parameters(case.parameters, parameters), parameters)
    with pytest.raises(ModelLoadError, match="labelz"):
        read_parameters({**case.parameters, "labelz": ["a"]}, parameters)
