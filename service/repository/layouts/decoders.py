"""What all encoder-decoder models say of their graphs and tokenizers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import CONFIG, TOKENIZER_CONFIG, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Unknown, graph_facts, graph_name
from service.repository.manifest import Precision

_ENCODER, _DECODER = "encoder_model", "decoder_model"
_MERGED, _WITH_PAST = "decoder_model_merged", "decoder_with_past_model"

_GRAPHS: Final[Mapping[str, Mapping[str, str]]] = {
    "merged": {"encoder": _ENCODER, "decoder": _MERGED},
    "pair": {"encoder": _ENCODER, "decoder": _DECODER, "decoder_with_past": _WITH_PAST},
    "none": {"encoder": _ENCODER, "decoder": _DECODER},
}
"""Which graphs are used, by the cache they have; the first that are all there."""

_NUMBERS = re.compile(r"\d{1,9}(,\d{1,9})*")
_FORBIDDEN = "forbidden"
"""In the metadata of a step graph: the tokens that it never chooses, with commas."""
_RENORMALIZED = "renormalized"
"""There too: the probabilities of the other tokens sum to 1."""

STEP_GRAPHS: Final = {name: name for name in ("encoder", "join", "step", "move")}
"""The graphs that `models.export --in-flight` writes."""

T5 = ("t5", "mt5", "umt5", "longt5")
"""Model types of T5."""

_MARIAN_FILES = ("source.spm", "target.spm", "vocab.json")
_TOKENIZER, PIECES = "tokenizer.json", "sentencepiece.bpe.model"

_TOKENIZERS: Final[Mapping[str, Sequence[tuple[str, tuple[str, ...]]]]] = {
    # transformers reads no tokenizer.json of Marian and M2M-100, so their own files come first.
    "marian": (("marian", _MARIAN_FILES), ("tokenizers", (_TOKENIZER,))),
    "m2m100": (("m2m100", (PIECES, "vocab.json")), ("tokenizers", (_TOKENIZER,))),
    "mbart50": (("tokenizers", (_TOKENIZER,)), ("mbart50", (PIECES,))),
    "nllb": (("tokenizers", (_TOKENIZER,)), ("nllb", (PIECES,))),
    "t5": (("tokenizers", (_TOKENIZER,)), ("t5", ("spiece.model",))),
    "bart": (("tokenizers", (_TOKENIZER,)),),
    "pegasus": (("tokenizers", (_TOKENIZER,)),),
}

TOKENIZER_FILES: Final = frozenset(
    name for choices in _TOKENIZERS.values() for _, names in choices for name in names
)

_UNSET_LENGTH = 1_000_000  # transformers writes 1e30 for a tokenizer without a length
_USUAL_LENGTH = 512


def has_decoder(files: ExportFiles) -> bool:
    """Tell whether there are an encoder and a decoder as Optimum writes them."""
    return _ENCODER in files.graphs and bool(files.graphs.keys() & {_DECODER, _MERGED})


def has_steps(files: ExportFiles) -> bool:
    """Tell whether there are the graphs that `models.export --in-flight` writes."""
    return files.graphs.keys() >= STEP_GRAPHS.keys()


def read_graphs(files: ExportFiles) -> Iterator[Finding]:
    """Tell the graphs that Optimum wrote, and the kind of the decoder's cache."""
    cache = _cache(files.graphs)
    yield from graph_facts(files, _GRAPHS[cache])
    yield Fact("parameters.cache", cache, f"there is {' and '.join(_GRAPHS[cache].values())}")


def read_step_graphs(files: ExportFiles) -> Iterator[Finding]:
    """Tell the graphs of steps, and which rules are inside them. Raises ModelLoadError."""
    yield from graph_facts(files, STEP_GRAPHS)
    metadata, name = files.signature("step").metadata, graph_name(files, "step")
    if declared := metadata.get(_FORBIDDEN):
        if not _NUMBERS.fullmatch(declared):
            raise ModelLoadError(f"{name}: {_FORBIDDEN} in its metadata is no list of ids")
        yield Fact(
            "parameters.forbidden", [*map(int, declared.split(","))], f"{name}: its metadata"
        )
    if metadata.get(_RENORMALIZED):
        yield Fact("parameters.renormalized", True, f"{name}: its metadata")


def unused_roles(graphs: Mapping[str, Mapping[Precision, str]]) -> frozenset[str]:
    """Return the roles of an encoder-decoder model's graphs that others replace."""
    if _ENCODER not in graphs:
        return frozenset()
    return frozenset((_DECODER, _MERGED, _WITH_PAST)).difference(_GRAPHS[_cache(graphs)].values())


def _cache(graphs: Mapping[str, Mapping[Precision, str]]) -> str:
    for name, roles in _GRAPHS.items():
        first, *others = (set(graphs.get(role, ())) for role in roles.values())
        if first.intersection(*others):
            return name
    return "none"


def read_tidying(files: ExportFiles) -> Iterator[Finding]:
    """Tell whether spaces before punctuation are taken out."""
    if (tidies := files.tokenizer.get("clean_up_tokenization_spaces")) is not None:
        key = f"{TOKENIZER_CONFIG}: clean_up_tokenization_spaces"
        yield Fact("parameters.tidies_spaces", bool(tidies), key)


def read_tokenizer_files(files: ExportFiles, convention: str) -> Iterator[Finding]:
    """Tell which files hold the tokenizer. Raises ModelLoadError."""
    if files.tokenizer.get("separate_vocabs"):
        raise ModelLoadError(
            f"{TOKENIZER_CONFIG} asks for separate_vocabs: two vocabularies are not served"
        )
    choices = _TOKENIZERS[convention]
    for kind, names in choices:
        if files.names >= set(names):
            if kind == "t5" and files.tokenizer.get("legacy") is False:
                raise ModelLoadError(
                    f"{TOKENIZER_CONFIG} says legacy = false, which is read from tokenizer.json "
                    "only: save the fast tokenizer too"
                )
            yield Fact("parameters.tokenizer", kind, ", ".join(names))
            yield Fact("parameters.tokenizer_files", list(names), ", ".join(names))
            return
    wanted = ", nor ".join(" with ".join(names) for _, names in choices)
    yield Unknown("parameters.tokenizer_files", f"there is neither {wanted}")


def source_length(files: ExportFiles) -> Iterator[Finding]:
    """Tell how many tokens of a text are read."""
    declared = files.tokenizer.get("model_max_length")
    for key in ("max_position_embeddings", "n_positions"):
        if isinstance(longest := files.config.get(key), int):
            break
    else:
        key, longest = "max_position_embeddings, whose usual value it is", _USUAL_LENGTH
    if isinstance(declared, int | float) and declared < min(_UNSET_LENGTH, longest):
        source = f"{TOKENIZER_CONFIG}: model_max_length"
        yield Fact("parameters.max_source_length", int(declared), source)
    else:
        yield Fact("parameters.max_source_length", longest, f"{CONFIG}: {key}")
