"""The tokenizer of an export directory, and how long a text may be for it and for the network."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import (
    CONFIG,
    MODEL_ROLE,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    ExportFiles,
)
from service.repository.layouts.facts import Fact, Finding, Unknown, graph_name
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
    elif (end := first_id(config.get("eos_token_id"))) is not None:
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


def first_id(value: Any) -> int | None:
    """Return the id of a token, or the first of several; None if there is none."""
    number = value[0] if isinstance(value, list) and value else value
    return number if _is_id(number) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _content(token: object) -> str | None:
    named = token.get("content") if isinstance(token, Mapping) else token
    return named if isinstance(named, str) else None


MERGES = "merges.txt"
VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model")

_CLASSES: Final[Mapping[str, str]] = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "chinese_clip": "BertTokenizer",
    "siglip": "SiglipTokenizer",
}
"""transformers' own choice where tokenizer_config.json does not name a class."""

_COUNTS_FROM_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "mdeberta"}
)
"""Models whose first position is the one behind the id of the padding."""

_UNSET_LENGTH = 1_000_000  # transformers writes 1e30 for a tokenizer without a length


def text_facts(files: ExportFiles) -> Iterator[Finding]:
    """Tell tokenizer, longest text, padding, and where positions begin."""
    yield from tokenizer_facts(files)
    offset = _first_position(files)
    yield from _max_length(files, offset)
    yield from padding_facts(files, files.config)
    if offset:
        yield Fact("parameters.first_position", offset, f"{CONFIG}: model_type, pad_token_id")
    if files.tokenizer.get("truncation_side") == "left":
        source = f"{TOKENIZER_CONFIG}: truncation_side"
        yield Fact("parameters.truncation_side", "left", source)
    name, table = files.sentence_bert
    if files.modules and table.get("do_lower_case"):
        yield Fact("parameters.lowercases", True, f"{name}: do_lower_case")


def tokenizer_facts(files: ExportFiles) -> Iterator[Finding]:
    """Tell the file of the tokenizer and, unless it is a tokenizer.json, of which class it is."""
    if "tokenizer.json" in files.names:
        yield Fact("parameters.tokenizer", "tokenizer.json", "tokenizer.json")
        return
    name = next((name for name in VOCABULARIES if name in files.names), None)
    if name is None or (name == "vocab.json" and MERGES not in files.names):
        yield Unknown("parameters.tokenizer", "there is no tokenizer.json and no vocabulary")
        return
    yield Fact("parameters.tokenizer", name, name)
    kind = files.tokenizer.get("tokenizer_class")
    if isinstance(kind, str):
        yield Fact("parameters.tokenizer_class", kind, f"{TOKENIZER_CONFIG}: tokenizer_class")
    elif files.model_type in _CLASSES:
        kind = _CLASSES[files.model_type]
        yield Fact("parameters.tokenizer_class", kind, f"{CONFIG}: model_type")
    else:
        reason = f"neither {TOKENIZER_CONFIG} nor {CONFIG} tells what kind of tokenizer {name} is"
        yield Unknown("parameters.tokenizer_class", reason)


def _first_position(files: ExportFiles) -> int:
    padding = files.config.get("pad_token_id")
    if files.model_type in _COUNTS_FROM_PADDING and isinstance(padding, int):
        return padding + 1
    return 0


def _max_length(files: ExportFiles, offset: int) -> Iterator[Finding]:
    """Tell the smallest of the limits of network, tokenizer and graph.

    Where sentence-transformers has a length of its own, it takes the place of the tokenizer's.
    """
    limits = [
        (positions - offset, f"{CONFIG}: {key}")
        for key in ("max_position_embeddings", "n_positions")
        if isinstance(positions := files.config.get(key), int) and positions > offset
    ]
    limits += _longest_text(files)
    if files.graphs.get(MODEL_ROLE):
        ids = files.signature().inputs.get("input_ids")
        if ids is not None and len(ids.shape) > 1 and (width := ids.shape[1]) is not None:
            limits.append((width, f"{graph_name(files)}: input_ids"))
            yield Fact("parameters.pads_to_max_length", True, f"{graph_name(files)}: input_ids")
    if limits:
        value, source = min(limits)
        yield Fact("parameters.max_length", value, source)
    else:
        reason = f"neither {TOKENIZER_CONFIG} nor {CONFIG} tells how long a text may be"
        yield Unknown("parameters.max_length", reason)


def _longest_text(files: ExportFiles) -> Iterator[tuple[int, str]]:
    """Yield what the tokenizer's length is set to, unless it is unlimited, and by what."""
    name, own = files.sentence_bert
    table, options = own if files.modules else {}, tokenizer_arguments(files)
    for declared, source in (
        (options.get("model_max_length"), f"{name}: processor_kwargs"),
        (table.get("max_seq_length"), f"{name}: max_seq_length"),
        (files.tokenizer.get("model_max_length"), f"{TOKENIZER_CONFIG}: model_max_length"),
    ):
        if isinstance(declared, int | float) and not isinstance(declared, bool) and declared > 0:
            if declared < _UNSET_LENGTH:
                yield int(declared), source
            return


def tokenizer_arguments(files: ExportFiles) -> Mapping[str, Any]:
    """Return what sentence-transformers tells the tokenizer when it loads it."""
    _, own = files.sentence_bert
    for key in ("processor_kwargs", "tokenizer_args"):
        if files.modules and isinstance(arguments := own.get(key), Mapping):
            return arguments
    return {}
