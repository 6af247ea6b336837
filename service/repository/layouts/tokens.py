"""The tokenizer of an export directory, and how long a text may be for it and for the network."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.repository.layouts.exports import (
    CONFIG,
    MODEL_ROLE,
    TOKENIZER_CONFIG,
    ExportFiles,
)
from service.repository.layouts.facts import Fact, Finding, Unknown
from service.repository.layouts.graphs import graph_name
from service.repository.layouts.padding import padding_facts

_VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model")

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

_UNSET_LENGTH = 1_000_000
"""transformers writes 1e30 for a tokenizer that nobody gave a length."""


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
    name = next((name for name in _VOCABULARIES if name in files.names), None)
    if name is None or (name == "vocab.json" and "merges.txt" not in files.names):
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
    for said, source in (
        (options.get("model_max_length"), f"{name}: processor_kwargs"),
        (table.get("max_seq_length"), f"{name}: max_seq_length"),
        (files.tokenizer.get("model_max_length"), f"{TOKENIZER_CONFIG}: model_max_length"),
    ):
        if isinstance(said, int | float) and not isinstance(said, bool) and said > 0:
            if said < _UNSET_LENGTH:
                yield int(said), source
            return


def tokenizer_arguments(files: ExportFiles) -> Mapping[str, Any]:
    """Return what sentence-transformers tells the tokenizer when it loads it."""
    _, own = files.sentence_bert
    for key in ("processor_kwargs", "tokenizer_args"):
        if files.modules and isinstance(arguments := own.get(key), Mapping):
            return arguments
    return {}
