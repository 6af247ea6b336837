"""Models that write a text from another and are no translators: BART, Pegasus, T5."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.repository.layouts.decoders import (
    T5,
    has_decoder,
    has_steps,
    read_graphs,
    read_step_graphs,
    read_tidying,
    read_tokenizer_files,
    source_length,
)
from service.repository.layouts.exports import CONFIG, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown
from service.repository.layouts.generation import generation_facts
from service.repository.layouts.translation import is_translation
from service.tasks import Task

_OF_TRANSLATORS: Final = frozenset(
    {"prefixes", "languages", "source_language", "target_language", "template"}
)
_MODELS: Final[Mapping[str, str]] = {
    "bart": "bart",
    "pegasus": "pegasus",
    **dict.fromkeys(T5, "t5"),
}
"""How the tokenizer is read, by model type."""


def _is_generator(files: ExportFiles) -> str | None:
    return f"{CONFIG}: model_type" if _is_known(files) and has_decoder(files) else None


def _is_in_flight(files: ExportFiles) -> str | None:
    known = _is_known(files) and has_steps(files)
    return f"{CONFIG}: model_type, and the graphs of steps" if known else None


def _is_known(files: ExportFiles) -> bool:
    return files.model_type in _MODELS


def _read_generator(files: ExportFiles) -> Iterator[Finding]:
    yield from read_graphs(files)
    yield from _read_texts(files)


def _read_in_flight(files: ExportFiles) -> Iterator[Finding]:
    yield from read_step_graphs(files)
    yield from _read_texts(files)


def _read_texts(files: ExportFiles) -> Iterator[Finding]:
    settings = _task(files)
    yield from generation_facts(files, {k: v for k, v in settings.items() if k != "prefix"})
    yield from source_length(files)
    yield from read_tokenizer_files(files, _MODELS.get(files.model_type, "bart"))
    yield from read_tidying(files)
    if prefix := settings.get("prefix"):
        yield Fact("parameters.prefix", str(prefix), f"{CONFIG}: task_specific_params")
    if files.model_type == "bart":
        begin = files.config.get("bos_token_id")
        if begin is None:
            yield Unknown("parameters.before", f"{CONFIG} has no bos_token_id")
        else:
            yield Fact("parameters.before", [begin], f"{CONFIG}: bos_token_id")


def _task(files: ExportFiles) -> Mapping[str, Any]:
    """Return what config.json says of its only task that is no translation; else nothing."""
    tasks = files.config.get("task_specific_params") or {}
    found = [
        declared
        for name, declared in tasks.items()
        if not is_translation(name) and isinstance(declared, Mapping)
    ]
    return found[0] if len(found) == 1 else {}


def _translates(files: ExportFiles) -> bool:
    return any(map(is_translation, files.config.get("task_specific_params") or {}))


def _is_no_translator(files: ExportFiles) -> str | None:
    return None if _translates(files) else _is_generator(files)


def _is_no_translator_in_flight(files: ExportFiles) -> str | None:
    return None if _translates(files) else _is_in_flight(files)


LAYOUTS: Final = (
    Layout(
        Task.GENERATE,
        "generator_steps",
        _is_no_translator_in_flight,
        _read_in_flight,
        _OF_TRANSLATORS,
    ),
    Layout(Task.GENERATE, "generator", _is_no_translator, _read_generator, _OF_TRANSLATORS),
)
"""A T5 whose config.json has translations is a translator, unless model.toml says otherwise."""

NAMED_LAYOUTS: Final = (
    Layout(Task.GENERATE, "generator_steps", _is_in_flight, _read_in_flight),
    Layout(Task.GENERATE, "generator", _is_generator, _read_generator),
)
"""After those of translators: for a model.toml that names the task."""
