"""The token that fills up short texts, by the tokenizer's files."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from service.errors import ModelLoadError
from service.repository.layouts.exports import (
    CONFIG,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    ExportFiles,
)
from service.repository.layouts.facts import Fact, Finding, Unknown
from service.repository.paths import file_inside

_KEY = "parameters.pad_id"
_TOKENIZER = "tokenizer.json"
_LARGEST = 256 * 1024 * 1024
"""Bytes of a tokenizer.json; that of Gemma has 34 MB."""


def padding_facts(files: ExportFiles, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Tell the padding of a model that masks it: by the model, by its tokenizer, or any token."""
    if _is_id(config.get("pad_token_id")):
        yield Fact(_KEY, config["pad_token_id"], f"{CONFIG}: pad_token_id")
    elif found := padding_token(files):
        yield found
    elif isinstance(config.get("pad_token_id"), int):
        yield Fact(_KEY, config["pad_token_id"], f"{CONFIG}: pad_token_id")  # and is refused
    elif (end := _first(config.get("eos_token_id"))) is not None:
        # GPT-2 has no token for it. The mask hides what is there.
        yield Fact(_KEY, end, f"{CONFIG}: eos_token_id, as there is no token for padding")
    else:
        yield Unknown(_KEY, f"neither {CONFIG} nor {TOKENIZER_CONFIG} tells it")


def padding_token(files: ExportFiles) -> Fact | None:
    """Find the id of the token that the tokenizer's files say to pad with."""
    vocabulary: Mapping[str, int] | None = None
    tables = ((TOKENIZER_CONFIG, files.tokenizer), (SPECIAL_TOKENS, files.special_tokens))
    for name, table in tables:
        token = _content(table.get("pad_token"))
        if token is None:
            continue
        if (number := _added(files).get(token)) is None:
            vocabulary = _vocabulary(_tokenizer(files)) if vocabulary is None else vocabulary
            number = vocabulary.get(token)
        if number is not None:
            return Fact(_KEY, number, f"{name}: pad_token")
    padding = _tokenizer(files).get("padding")
    number = padding.get("pad_id") if isinstance(padding, Mapping) else None
    return Fact(_KEY, number, f"{_TOKENIZER}: padding") if _is_id(number) else None


def _added(files: ExportFiles) -> Mapping[str, int]:
    table = files.tokenizer.get("added_tokens_decoder")
    return {
        content: int(number)
        for number, entry in (table if isinstance(table, Mapping) else {}).items()
        if (content := _content(entry)) is not None and str(number).isdecimal()
    }


def _tokenizer(files: ExportFiles) -> Mapping[str, Any]:
    """Return tokenizer.json, parsed; empty if there is none.

    Raises:
        ModelLoadError: it cannot be read.
    """
    if _TOKENIZER not in files.names:
        return {}
    path = file_inside(_TOKENIZER, files.folder, files.root, files.folder.name)
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelLoadError(f"{_TOKENIZER} is larger than {_LARGEST >> 20} MiB")
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{_TOKENIZER} cannot be read: {error}") from None
    return table if isinstance(table, dict) else {}


def _vocabulary(table: Mapping[str, Any]) -> Mapping[str, int]:
    """Return the ids of a tokenizer.json's tokens; pieces of Unigram are listed by id."""
    model = table.get("model")
    words = model.get("vocab") if isinstance(model, Mapping) else None
    found: dict[str, int] = {}
    if isinstance(words, Mapping):
        found.update({str(word): number for word, number in words.items() if _is_id(number)})
    elif isinstance(words, list):
        found.update({str(piece[0]): number for number, piece in enumerate(words) if piece})
    for entry in table.get("added_tokens") or ():
        if (content := _content(entry)) is not None and _is_id(entry.get("id")):
            found[content] = entry["id"]
    return found


def _first(value: Any) -> int | None:
    number = value[0] if isinstance(value, list) and value else value
    return number if _is_id(number) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _content(token: object) -> str | None:
    named = token.get("content") if isinstance(token, Mapping) else token
    return named if isinstance(named, str) else None
