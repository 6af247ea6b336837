"""Generators: prefixes, special tokens, options of an item. Tokens: tests/exports."""

from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidInputError
from service.tasks import GenerateItem
from tests.unit.families.cases import EOS, TEXTS, open_case
from tests.unit.families.step_models import step_sessions


@pytest.fixture
def processor(tmp_path: Path) -> Any:
    return open_case("generator", tmp_path).processor


def ids_of(processor: Any, item: GenerateItem) -> list[int]:
    ids: list[int] = processor.preprocess(item).tensors["input_ids"].tolist()
    return ids


def test_the_prefix_of_an_item_replaces_the_models(processor: Any) -> None:
    one, two = processor.subwords.encode("one"), processor.subwords.encode("two")
    assert ids_of(processor, GenerateItem("two")) == [6, *one, *two, EOS]
    assert ids_of(processor, GenerateItem("two", prefix="")) == [6, *two, EOS]
    assert ids_of(processor, GenerateItem("two", prefix="two ")) == [6, *two, *two, EOS]


def test_a_text_that_is_too_long_loses_its_end_and_says_so(processor: Any) -> None:
    work = processor.preprocess(GenerateItem("two " * 50))
    assert (work.length, work.tensors["is_cut"].item()) == (24, True)
    assert work.tensors["input_ids"][-1] == EOS


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"num_beams": 9}, "num_beams must be from 1 to 8"),
        ({"alternatives": 4}, "alternatives is 4"),
        ({"min_new_tokens": 21}, "min_new_tokens is 21 and at most 20 are written"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, Any], detail: str, processor: Any
) -> None:
    with pytest.raises(InvalidInputError, match=detail):
        processor.preprocess(GenerateItem("one", **options))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_item_may_ask_for_more_tokens_than_the_model_would_write(
    num_beams: int, tmp_path: Path
) -> None:
    family = open_case("generator_steps", tmp_path)
    sessions = step_sessions(64, 24)
    for least in (0, 12):
        items = [GenerateItem(t, num_beams=num_beams, min_new_tokens=least) for t in TEXTS]
        works = [family.processor.preprocess(item) for item in items]
        results = family.model.infer(sessions, works)
        lengths = [len(result["ids"]) for result in results]
        assert min(lengths) >= least
