"""What ARCHITECTURE.md lists under "Where to add things": a file that is forgotten fails here."""

import ast
import hashlib
import importlib
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import orjson
import pytest
from pydantic import BaseModel

from service.api.routes import task_routes
from service.cache.codec import CODECS, SCHEMA
from service.families import FAMILIES
from service.repository.deviation import deviation
from service.repository.goldens import _FILES
from service.tasks import (
    Answer,
    AnyItem,
    Classification,
    ClassifyItem,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    GenerateItem,
    Generation,
    Inference,
    InferItem,
    Tagging,
    TagItem,
    Task,
    TranslateItem,
    Translation,
)

ROOT = Path(__file__).parents[2]
TYPES: Mapping[Task, tuple[type[AnyItem], type[Answer]]] = {
    Task.CLASSIFY: (ClassifyItem, Classification),
    Task.TAG: (TagItem, Tagging),
    Task.TRANSLATE: (TranslateItem, Translation),
    Task.GENERATE: (GenerateItem, Generation),
    Task.DETECT: (DetectItem, Detections),
    Task.EMBED: (EmbedItem, Embedding),
    Task.SPARSE: (EmbedItem, Embedding),
    Task.INFER: (InferItem, Inference),
}
NATIVE = [task for task in Task if task not in (Task.INFER, Task.SPARSE)]
"""Tasks with a route of their own; tensors are sent by the Open Inference Protocol."""
ROUTES = {task: f"/v1/{task.value}" for task in NATIVE} | {
    Task.TAG: "/v1/classify",
    Task.SPARSE: "/v1/embed",
}
"""Token classifiers and sparse embedders answer on the routes of the others."""
# SCHEMA, and a digest of what the cache stores of an example of each answer.
STORED = (6, "dbc8df58d1a1e4c8")


def example(hint: Any, turn: int = 0) -> Any:  # noqa: PLR0911
    """A value of a type; another one for another turn."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{one.name: example(hints[one.name], turn) for one in fields(hint)})
    parts = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) is tuple:
        return tuple(example(part, turn + place) for place, part in enumerate(parts))
    if "int32" in str(hint):
        return np.array([turn + 1], np.int32)
    if get_origin(hint) is np.ndarray:
        return np.array([turn + 0.5], np.float32)
    if get_origin(hint) is Mapping:
        return {f"name {turn}": example(parts[1], turn)}
    if parts:  # X | None
        return example(parts[0], turn)
    if issubclass(hint, StrEnum):
        return list(hint)[turn]
    plain = {str: f"text {turn}", float: turn + 0.5, int: turn + 1, bool: turn == 0}
    assert hint in plain, f"teach `example` in {__file__} the type {hint}"
    return plain[hint]


def changes(hint: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one field changed, by that field's name, for each of its fields."""
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        for one in fields(hint):
            for name, changed in changes(hints[one.name], getattr(value, one.name)):
                whole = replace(value, **{one.name: changed})
                yield name or f"{hint.__name__}.{one.name}", whole
    elif get_origin(hint) is tuple and is_dataclass(get_args(hint)[0]):
        for name, changed in changes(get_args(hint)[0], value[0]):
            yield name, (changed, *value[1:])
    else:
        yield "", example(hint, 1)


def module_of(task: Task) -> Any:
    try:
        return importlib.import_module(f"service.api.{task.value}")
    except ImportError:
        pytest.fail(f"{task.value} has no route: add service/api/{task.value}.py")


@pytest.mark.parametrize("task", Task)
def test_a_task_is_everywhere_that_a_task_must_be(task: Task) -> None:
    assert task in TYPES, "add its item and its answer to TYPES here"
    assert task in CODECS, "add its encoding to CODECS in service/cache/codec.py"
    assert task in _FILES, "add its goldens to service/repository/goldens.py"
    paths = {route.path for route in task_routes()}
    assert ROUTES.get(task) in {*paths, None}, "add it to service/api/routes.py"
    assert any(entry.task is task for entry in FAMILIES.values()), "add a family"
    item, answer = TYPES[task]
    assert item in get_args(AnyItem), "add its item to AnyItem in service/tasks/"
    assert answer in get_args(Answer), "add its answer to Answer in service/tasks/"
    found = deviation(example(answer), example(answer))
    assert found == 0, "compare its answers in service/repository/deviation.py"


@pytest.mark.parametrize("task", Task)
def test_every_field_of_an_answer_is_kept_by_the_cache(task: Task) -> None:
    encode, decode = CODECS[task].encode, CODECS[task].decode
    answer = TYPES[task][1]
    assert encode(decode(encode(example(answer)))) == encode(example(answer))
    for name, changed in changes(answer, example(answer)):
        where = f"{name}: store it in service/cache/codec.py and raise its SCHEMA"
        assert encode(changed) != encode(example(answer)), where
        assert encode(decode(encode(changed))) == encode(changed), where


def test_the_schema_of_the_cache_is_raised_with_its_encoding() -> None:
    """Otherwise a new release reads what an old one stored in a shared cache."""
    stored = b"".join(CODECS[task].encode(example(TYPES[task][1])) for task in Task)
    found = SCHEMA, hashlib.sha256(stored).hexdigest()[:16]
    assert found == STORED, (
        f"raise SCHEMA in service/cache/codec.py if it is {STORED[0]} still, and set STORED to it "
        f"and {found[1]!r}"
    )


@pytest.mark.parametrize("task", NATIVE)
def test_every_field_of_an_answer_is_sent(task: Task) -> None:
    module, answer = module_of(task), TYPES[task][1]
    encoder = f"encode_{answer.__name__.lower()}"

    def sent(value: Any) -> Any:
        encode = getattr(module, encoder)
        encoded = orjson.dumps(encode(value), option=orjson.OPT_SERIALIZE_NUMPY)
        return orjson.loads(encoded)

    for name, changed in changes(answer, example(answer)):
        where = f"{name}: write it in `{encoder}` of service/api/{task.value}.py"
        assert sent(changed) != sent(example(answer)), where
    result: type[BaseModel] = getattr(module, f"{task.value.capitalize()}Result")
    documented = result.model_validate(sent(example(answer)))
    written = documented.model_dump(mode="json", exclude_unset=True)
    assert written == sent(example(answer)), f"{result.__name__} in service/api/{task.value}.py"


def test_every_field_of_a_translation_is_joined_or_common_to_all_segments() -> None:
    joined = {"text", "truncated", "finish_reason", "glossary"}
    common = {"source", "target", "alternatives"}
    assert {one.name for one in fields(Translation)} == joined | common, (
        "make the field of a text from its segments' in `_joined` of service/requests/documents.py "
        "and add it to `joined` here; or to `common`, if all segments have the same"
    )


def test_families_are_independent_of_one_another_by_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["name"].startswith("Model families"))
    modules = {entry.parameters.__module__ for entry in FAMILIES.values()}
    assert set(contract["modules"]) == modules, (
        'list the module of every family under "Model families do not know one another" in '
        "pyproject.toml"
    )


def test_nothing_is_told_apart_by_the_class_of_a_family_or_of_an_engine() -> None:
    """What a family can do is in its traits, what an engine can do in its protocol."""
    seams = {"Processor", "Model", "Opened", "InFlight", "Rows", "Engine", "Batcher"}
    for entry in FAMILIES.values():
        module = sys.modules[entry.parameters.__module__]
        seams |= {name for name in vars(module) if name.endswith(("Processor", "Model"))}
    for path in sorted((ROOT / "service").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert "runtime_checkable" not in source, path
        for node in ast.walk(ast.parse(source)) if "isinstance(" in source else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
                assert not asked & seams, f"{path}:{node.lineno}"
