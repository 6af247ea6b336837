"""Every family on inputs that were made to break it."""

from typing import Any

import pytest

from service import tasks
from service.errors import (
    InvalidInputError,
    LimitExceededError,
    UnsupportedMediaTypeError,
)
from service.families import FAMILIES
from service.families.family import Opened
from service.tasks import ClassifyItem, DetectItem, EmbedItem
from tests.unit.families.cases import CASES, Case, batches, item_of
from tests.unit.transforms.images import DAMAGED, FOREIGN, TOO_LARGE
from tests.unit.transforms.texts import HOSTILE

HOSTILE_TEXTS = {name: text for name, text in HOSTILE.items() if len(text) < 5_000}


def test_hostile_texts_are_answered(name: str, family: Opened[Any, Any], case: Case) -> None:
    if "text" not in FAMILIES[name].modalities:
        return
    assert len(HOSTILE_TEXTS) >= 20
    items = [item_of(name, text) for text in HOSTILE_TEXTS.values()]
    for batch in batches(family, items):
        results = family.model.infer(case.sessions(), batch)
        answers = [family.processor.postprocess(r, i) for r, i in zip(results, items, strict=True)]
        assert len(answers) == len(items)


def test_hostile_images_are_refused(name: str, family: Opened[Any, Any]) -> None:
    if "image" not in FAMILIES[name].modalities:
        return
    refusals = (InvalidInputError, LimitExceededError, UnsupportedMediaTypeError)
    for data in [*DAMAGED.values(), *FOREIGN.values(), *TOO_LARGE.values()]:
        with pytest.raises(refusals):
            family.processor.preprocess(item_of(name, data))


def test_an_image_over_its_own_limit_is_refused(name: str, family: Opened[Any, Any]) -> None:
    if "image" not in FAMILIES[name].modalities:
        return
    data = next(i for i in CASES["detector"].items).image.data  # 64 x 64
    small, large = tasks.Image(data, 64 * 64 - 1), tasks.Image(data, 64 * 64)
    task = FAMILIES[name].task
    make = {tasks.Task.CLASSIFY: ClassifyItem, tasks.Task.EMBED: EmbedItem}.get(task, DetectItem)
    family.processor.preprocess(make(large))
    with pytest.raises(LimitExceededError):
        family.processor.preprocess(make(small))
