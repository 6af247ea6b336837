"""Glossary terms are kept in a translation, or reported as missing."""

from collections.abc import Mapping, Sequence

import pytest

from service.families.translation.glossary import Placeholders, glossary_plan
from service.tasks import Alternative, FinishReason, KeptTerm, TranslateItem, Translation

STAND_INS = Placeholders(names=(("汤姆", "Tom"), ("玛丽", "Mary")), numbers=(("二十", "twenty"),))
ZHANG = ("张伟", "Zhang Wei")


def said(*texts: str, reason: FinishReason = FinishReason.STOP) -> Translation:
    found = tuple(Alternative(text, -float(n), reason) for n, text in enumerate(texts))
    return Translation(
        texts[0], "zh", "en", reason is not FinishReason.STOP, reason, alternatives=found
    )


def settled(
    item: TranslateItem, says: Mapping[str, Sequence[str]], num_beams: int = 4
) -> tuple[Translation, list[TranslateItem]]:
    """Play a model that says these hypotheses to these texts; also what it was asked."""
    steps = glossary_plan(item, num_beams, STAND_INS)
    asked = [next(steps)]
    while True:
        try:
            asked.append(steps.send(said(*says[asked[-1].text])))
        except StopIteration as end:
            return end.value, asked


def test_a_text_without_terms_is_asked_as_it_is() -> None:
    item = TranslateItem("你好", glossary=(ZHANG,), protect=("numbers",), alternatives=2)
    steps = glossary_plan(item, 4, STAND_INS)
    assert next(steps) == TranslateItem("你好", alternatives=2)
    with pytest.raises(StopIteration) as end:
        steps.send(said("Hello", "Hi"))
    assert end.value.value == said("Hello", "Hi")


def test_what_the_model_keeps_by_itself_costs_nothing() -> None:
    item = TranslateItem("张伟来了", glossary=(ZHANG,))
    answer, asked = settled(item, {"张伟来了": ["Zhang Wei came", "He came"]})
    assert (answer.text, answer.alternatives) == ("Zhang Wei came", ())
    assert answer.glossary == (KeptTerm(*ZHANG, True),)
    assert asked == [TranslateItem("张伟来了", alternatives=4)]


def test_of_the_hypotheses_the_best_one_that_keeps_all_terms_counts() -> None:
    item = TranslateItem("他付了42元", protect=("numbers",), alternatives=1)
    answer, asked = settled(item, {"他付了42元": ["He paid 420", "42 he paid", "He paid 42"]})
    assert answer.text == answer.alternatives[0].text == "42 he paid"
    assert len(answer.alternatives) == len(asked) == 1


def test_else_a_stand_in_is_translated_and_the_term_takes_its_place() -> None:
    item = TranslateItem("张伟付了42元", glossary=(ZHANG,), protect=("numbers",))
    says = {"张伟付了42元": ["He paid"], "汤姆付了二十元": ["He paid twenty", "Tom paid twenty"]}
    answer, asked = settled(item, says)
    assert answer.text == "Zhang Wei paid 42"
    assert answer.glossary == (KeptTerm(*ZHANG, True), KeptTerm("42", "42", True))
    assert [one.text for one in asked] == list(says)
    assert not any(one.glossary or one.protect for one in asked)


def test_a_stand_in_that_begins_a_sentence_may_be_capitalised() -> None:
    item = TranslateItem("42个人", protect=("numbers",))
    answer, _ = settled(item, {"42个人": ["People"], "二十个人": ["Twenty people"]})
    assert answer.text == "42 people"


@pytest.mark.parametrize(
    "text", ["Nobody came", "Tom and Tom came", "Tomorrow came", "Tom-boy came", "mary and Toms"]
)
def test_a_stand_in_that_is_not_there_as_often_as_it_was_is_given_up(text: str) -> None:
    item = TranslateItem("张伟来了", glossary=(ZHANG,))
    says = {"张伟来了": ["The king came"], "汤姆来了": [text], "玛丽来了": ["Mary came"]}
    answer, asked = settled(item, says)
    assert answer.text == "Zhang Wei came"
    assert len(asked) == 3


def test_what_no_stand_in_brings_home_is_told_and_the_plain_translation_stays() -> None:
    item = TranslateItem("张伟42岁", glossary=(ZHANG,), protect=("numbers",), alternatives=2)
    says = {
        "张伟42岁": ["He is 42", "He is 4200", "The king"],
        "汤姆二十岁": ["?"],
        "玛丽汤姆岁": ["?"],
        "汤姆玛丽岁": ["?"],
    }
    answer, _ = settled(item, says)
    assert answer.text == "He is 42"
    assert answer.glossary == (KeptTerm(*ZHANG, False), KeptTerm("42", "42", True))
    assert [one.text for one in answer.alternatives] == ["He is 42", "He is 4200"]


def test_a_term_stands_as_often_as_in_the_text() -> None:
    item = TranslateItem("张伟认识张伟", glossary=(ZHANG,))
    says = {"张伟认识张伟": ["Zhang Wei knows"], "汤姆认识汤姆": ["Tom knows Tom"]}
    assert settled(item, says)[0].text == "Zhang Wei knows Zhang Wei"


def test_a_word_of_the_text_does_not_stand_for_another() -> None:
    item = TranslateItem("张伟和汤姆来了", glossary=(ZHANG,))
    says = {"张伟和汤姆来了": ["Tom came"], "玛丽和汤姆来了": ["Mary and Tom came"]}
    assert settled(item, says)[0].text == "Zhang Wei and Tom came"


def test_the_longest_term_counts_and_the_callers_word_before_what_is_found() -> None:
    item = TranslateItem("张伟东42", glossary=(ZHANG, ("张伟东", "Zhang Weidong"), ("42", "XLII")),
                         protect=("numbers",))  # fmt: skip
    answer, _ = settled(item, {"张伟东42": ["Zhang Weidong XLII"]})
    assert answer.glossary == (
        KeptTerm("张伟东", "Zhang Weidong", True),
        KeptTerm("42", "XLII", True),
    )


def test_more_alternatives_than_beams_are_left_to_the_model_to_refuse() -> None:
    item = TranslateItem("张伟来了", glossary=(ZHANG,), alternatives=3)
    assert next(glossary_plan(item, 2, STAND_INS)) == TranslateItem("张伟来了", alternatives=3)


def test_a_hypothesis_that_is_not_whole_says_so() -> None:
    steps = glossary_plan(TranslateItem("张伟", glossary=(ZHANG,)), 4, STAND_INS)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(said("Zhang Wei and", reason=FinishReason.LENGTH))
    assert (end.value.value.truncated, end.value.value.finish_reason) == (True, "length")
