"""Every field of every answer survives the cache: no field is forgotten by its codec."""

import types
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from service.cache import codec
from service.cache.codec import CODECS
from service.tasks import Answer, Classification, Detections, Embedding, Label, Task, Translation

ANSWERS = {
    Task.CLASSIFY: Classification,
    Task.TRANSLATE: Translation,
    Task.DETECT: Detections,
    Task.EMBED: Embedding,
}


def filled(kind: Any, number: int = 7) -> Any:
    """Return a value of a type that differs from every default a field may have."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        values = [filled(hints[f.name], number + i) for i, f in enumerate(fields(kind))]
        return kind(*values)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1]
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return filled(next(one for one in inner if one is not type(None)), number)
    if origin is tuple:
        parts = (inner[0], inner[0]) if inner[-1] is Ellipsis else inner
        return tuple(filled(part, number + i) for i, part in enumerate(parts))
    if origin is np.ndarray:
        return np.linspace(0.5, 1.5, 3, dtype=np.float32)
    simple: dict[type, Any] = {
        bool: True,
        int: number,
        float: number + 0.25,
        str: f"text {number}",
    }
    return simple[kind]


def differing(first: Any, second: Any) -> list[str]:
    """Return the fields in which two answers differ."""
    pairs = [(f.name, getattr(first, f.name), getattr(second, f.name)) for f in fields(first)]
    return [name for name, one, other in pairs if not np.array_equal(one, other)]


def test_every_answer_of_a_task_is_here() -> None:
    assert set(ANSWERS) == set(CODECS) == set(Task)
    assert set(ANSWERS.values()) == set(get_args(Answer))


@pytest.mark.parametrize("task", list(Task))
def test_every_field_of_an_answer_is_stored_and_read(task: Task) -> None:
    answer = filled(ANSWERS[task])
    assert differing(answer, CODECS[task].decode(CODECS[task].encode(answer))) == []


def test_a_field_with_a_default_that_the_codec_does_not_know_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @dataclass(frozen=True, slots=True)
    class Counted(Classification):
        count: int = -1

    monkeypatch.setattr(codec, "Classification", Counted)
    answer = filled(Counted)
    assert answer.count != -1
    known = CODECS[Task.CLASSIFY]
    assert differing(answer, known.decode(known.encode(answer))) == ["count"]


def test_what_is_filled_has_no_default() -> None:
    assert filled(Classification) == Classification((Label("text 7", 8.25), Label("text 8", 9.25)))
    assert filled(Translation).alternatives
