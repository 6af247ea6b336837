"""Translators: Marian, T5, mBART-50, M2M-100 and NLLB."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.decoders import (
    PIECES,
    STEP_GRAPHS,
    T5,
    has_decoder,
    has_steps,
    read_graphs,
    read_step_graphs,
    read_tidying,
    read_tokenizer_files,
    source_length,
)
from service.repository.layouts.exports import (
    CONFIG,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    ExportFiles,
)
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown
from service.repository.layouts.generation import generation_facts
from service.repository.paths import file_inside
from service.tasks import Task
from service.transforms.language.languages import M2M100, MBART50, WMT21

_MODELS = ("marian", "m2m_100", "mbart", *T5)

_CLASSES: Final[Mapping[str, str]] = {
    "MarianTokenizer": "marian",
    "M2M100Tokenizer": "m2m100",
    "MBart50Tokenizer": "mbart50",
    "NllbTokenizer": "nllb",
    "T5Tokenizer": "t5",
}

_LANGUAGE_TOKENS: Final[Mapping[str, str]] = {
    "marian": r">>(.+)<<",
    "m2m100": r"__(.+)__",
    "mbart50": r"([a-z]{2,3}_[A-Z]{2})",
    "nllb": r"([a-z]{3}_[A-Z][a-z]{3})",
}

_OPUS = re.compile(r"opus-mt(?:-tc)?(?:-(?:big|base|tiny))?-([A-Za-z_]+)-([A-Za-z_]+)/?$")
_TASK = re.compile(r"translation_([A-Za-z]{2,3})_to_([A-Za-z]{2,3})")


def _is_translator(files: ExportFiles) -> str | None:
    known = files.model_type in _MODELS and has_decoder(files)
    return f"{CONFIG}: model_type" if known else None


def _is_in_flight(files: ExportFiles) -> str | None:
    known = files.model_type in _MODELS and has_steps(files)
    return f"{CONFIG}: model_type, {' and '.join(STEP_GRAPHS)}.onnx" if known else None


def _read_translator(files: ExportFiles) -> Iterator[Finding]:
    yield from read_graphs(files)
    yield from _read_texts(files)


def _read_in_flight(files: ExportFiles) -> Iterator[Finding]:
    yield from read_step_graphs(files)
    yield from _read_texts(files)


def _read_texts(files: ExportFiles) -> Iterator[Finding]:
    yield from generation_facts(files, _task_settings(files))
    yield from source_length(files)
    convention, source = _convention(files)
    if convention is None:
        yield Unknown("parameters.tokenizer", f"{TOKENIZER_CONFIG} names no tokenizer known here")
        return
    yield from read_tokenizer_files(files, convention)
    yield from read_tidying(files)
    match convention:
        case "t5":
            yield from _task_prefixes(files)
        case "marian":
            yield from _marian_languages(files)
        case _:
            yield from _many_languages(files, convention, source)


def _convention(files: ExportFiles) -> tuple[str | None, str]:
    """Tell whose way of numbering pieces and naming languages it is, and by what."""
    named = files.tokenizer.get("tokenizer_class") or files.config.get("tokenizer_class") or ""
    if found := _CLASSES.get(str(named).removesuffix("Fast")):
        return found, f"{TOKENIZER_CONFIG}: tokenizer_class"
    source = f"{CONFIG}: model_type"
    if files.model_type in T5:
        return "t5", source
    if files.model_type == "m2m_100":
        return ("m2m100" if {PIECES, "vocab.json"} <= files.names else "nllb"), source
    return ("marian" if files.model_type == "marian" else None), source


def _task_settings(files: ExportFiles) -> Mapping[str, Any]:
    """Return what all translation tasks of a T5 say alike of how they are generated."""
    settings = [dict(declared) for declared in _tasks(files).values()]
    return {
        key: value
        for key, value in (settings[0] if settings else {}).items()
        if key != "prefix" and all(declared.get(key) == value for declared in settings)
    }


def is_translation(name: str) -> bool:
    """Tell whether a task of config.json is a translation, by its name."""
    return _TASK.fullmatch(name) is not None


def _tasks(files: ExportFiles) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    tasks = files.config.get("task_specific_params") or {}
    return {
        (found[1], found[2]): declared
        for name, declared in tasks.items()
        if (found := _TASK.fullmatch(name)) and isinstance(declared, Mapping)
    }


def _task_prefixes(files: ExportFiles) -> Iterator[Finding]:
    prefixes = {
        "-".join(pair): str(declared["prefix"])
        for pair, declared in _tasks(files).items()
        if "prefix" in declared
    }
    if prefixes:
        yield Fact("parameters.prefixes", prefixes, f"{CONFIG}: task_specific_params")
    else:
        declared = (
            f"{CONFIG}: task_specific_params has no translation, so the languages and the "
            'prefix of a text are unknown (such as {"en-de" = "translate English to '
            'German: "}, or "" for nothing)'
        )
        yield Unknown("parameters.prefixes", declared)


def _marian_languages(files: ExportFiles) -> Iterator[Finding]:
    named = str(files.config.get("_name_or_path", ""))
    found = _OPUS.search(named)
    source_language = files.tokenizer.get("source_lang") or (found and found[1])
    target_language = files.tokenizer.get("target_lang") or (found and found[2])
    targets = _marian_targets(files)
    if targets:
        yield Fact("parameters.template", "target_eos", "vocab.json: its >>language<< tokens")
        yield Fact("parameters.languages", targets, "vocab.json: its >>language<< tokens")
    for key, value in (("source_language", source_language), ("target_language", target_language)):
        if value:
            from_name = found and value in found.groups()
            place = f"{CONFIG}: _name_or_path" if from_name else f"{TOKENIZER_CONFIG}: {key[:11]}"
            yield Fact(f"parameters.{key}", value, place)
        elif key == "source_language" or not targets:
            declared = (
                f"neither {CONFIG} (_name_or_path) nor {TOKENIZER_CONFIG} tells the languages"
            )
            yield Unknown(f"parameters.{key}", declared)


def _marian_targets(files: ExportFiles) -> Mapping[str, str]:
    """Return the languages that a text can ask for, of a model for several."""
    if "vocab.json" not in files.names:
        return {}
    path = file_inside("vocab.json", files.folder, files.root, files.folder.name)
    try:
        vocabulary = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"vocab.json cannot be read: {error}") from None
    if not isinstance(vocabulary, dict):
        raise ModelLoadError("vocab.json must hold a JSON object")
    return _language_codes(vocabulary, "marian")


def _many_languages(files: ExportFiles, convention: str, source: str) -> Iterator[Finding]:
    legacy = convention == "nllb" and files.tokenizer.get("legacy_behaviour")
    place = f"{TOKENIZER_CONFIG}: legacy_behaviour" if legacy else source
    yield Fact("parameters.template", "eos_source" if legacy else "source_eos", place)
    tokens, place = _language_tokens(files, convention)
    if not tokens:
        yield Unknown("parameters.languages", f"neither {place} lists tokens of languages")
        return
    yield Fact("parameters.languages", tokens, place)
    for key, of_tokenizer in (("source_language", "src_lang"), ("target_language", "tgt_lang")):
        if (code := files.tokenizer.get(of_tokenizer)) in tokens:
            yield Fact(f"parameters.{key}", code, f"{TOKENIZER_CONFIG}: {of_tokenizer}")


def _language_tokens(files: ExportFiles, convention: str) -> tuple[Mapping[str, str], str]:
    """Return the token of each language by its code, in the order of ids, and where it is from."""
    for name, table in (
        (SPECIAL_TOKENS, files.special_tokens),
        (TOKENIZER_CONFIG, files.tokenizer),
    ):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            tokens = table.get(key) or ()
            tokens = tokens.values() if isinstance(tokens, Mapping) else tokens
            if found := _language_codes(map(_content, tokens), convention):
                return found, f"{name}: {key}"
    added = files.tokenizer.get("added_tokens_decoder") or {}
    ordered = [_content(added[number]) for number in sorted(added, key=int)]
    if found := _language_codes(ordered, convention):
        return found, f"{TOKENIZER_CONFIG}: added_tokens_decoder"
    place = f"{SPECIAL_TOKENS} nor {TOKENIZER_CONFIG}"
    if convention == "m2m100":
        codes = WMT21 if files.tokenizer.get("language_codes") == "wmt21" else M2M100
        return {code: f"__{code}__" for code in codes}, f"{TOKENIZER_CONFIG}: tokenizer_class"
    if convention == "mbart50":
        return {code: code for code in MBART50}, f"{TOKENIZER_CONFIG}: tokenizer_class"
    return {}, place


def _language_codes(tokens: Any, convention: str) -> Mapping[str, str]:
    pattern = re.compile(_LANGUAGE_TOKENS[convention])
    return {found[1]: token for token in tokens if (found := pattern.fullmatch(str(token)))}


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, Mapping) else str(token)


LAYOUTS: Final = (
    Layout(Task.TRANSLATE, "encoder_decoder_steps", _is_in_flight, _read_in_flight),
    Layout(Task.TRANSLATE, "encoder_decoder", _is_translator, _read_translator),
)
