"""How a model wants to write: generation_config.json, or config.json of before there was one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import CONFIG, GENERATION, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Unknown

_USUAL_LENGTH = 20
"""What transformers takes where nothing says how long an answer may get."""

_LONGEST = 512
"""The most that a request may ask for of a model whose positions have no end."""


def _sequences(value: Any) -> Sequence[tuple[Sequence[int], float]]:
    """Read a sequence_bias: since transformers 4.48 a list of pairs, before that a mapping."""
    pairs = value.items() if isinstance(value, Mapping) else value
    return [(_ids_of(sequence), float(bias)) for sequence, bias in pairs]


def _ids_of(value: Any) -> list[int]:
    numbers = re.findall(r"\d+", value) if isinstance(value, str) else value  # "(15, 7)", a key
    return list(map(int, numbers))


_RULES: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "early_stopping": ("early_stopping", lambda value: value),
    "no_repeat_ngram_size": ("no_repeat_ngram_size", int),
    "encoder_no_repeat_ngram_size": ("encoder_no_repeat_ngram_size", int),
    "repetition_penalty": ("repetition_penalty", float),
    "bad_words_ids": ("bad_words", lambda value: [_ids_of(word) for word in value]),
    "forced_bos_token_id": ("forced_bos_id", int),
    "forced_eos_token_id": ("forced_eos_id", int),
    "suppress_tokens": ("suppressed", _ids_of),
    "begin_suppress_tokens": ("suppressed_first", _ids_of),
    "sequence_bias": ("sequence_bias", _sequences),
    "exponential_decay_length_penalty": (
        "exponential_decay",
        lambda value: [int(value[0]), float(value[1])],
    ),
    "renormalize_logits": ("renormalize", bool),
}

_NOT_SERVED: Final[Mapping[str, Any]] = {
    # Each with the value at which it does nothing. What is in neither table changes no search:
    # how numbers are drawn (nothing is drawn here), caches, what `generate` returns besides ids,
    # drafts of a second model, and filters of values that are not finite.
    "constraints": None,
    "encoder_repetition_penalty": 1.0,
    "force_words_ids": None,
    "guidance_scale": 1,
    "num_beam_groups": 1,
    "stop_strings": None,
    "token_healing": False,
    "watermarking_config": None,
}
_OF_GREEDY_SEARCH: Final = ("penalty_alpha", "dola_layers")
"""Ways of choosing that take the place of greedy search, and do nothing to beam search."""


def generation_facts(files: ExportFiles, task: Mapping[str, Any]) -> Iterator[Finding]:
    """Tell the rules of writing, the lengths and the beams.

    Args:
        files: the directory.
        task: what config.json says of the task, over its generation_config.json.

    Raises:
        ModelLoadError: the model is to be searched in a way that is not served.
    """
    place = GENERATION if GENERATION in files.tables else CONFIG
    own = files.generation if GENERATION in files.tables else files.config
    declared = {**own, **task}
    for key in _refused(declared):
        raise ModelLoadError(f"{place} asks for {key}, which is not served: take it out of it")
    yield from _ids(files, declared, place)
    for key, (rule, typed) in _RULES.items():
        if declared.get(key) is not None:
            yield Fact(f"parameters.rules.{rule}", typed(declared[key]), _source(key, task, place))
    if least := _least(declared):
        key = "min_new_tokens" if declared.get("min_new_tokens") else "min_length"
        yield Fact("parameters.rules.min_length", least, _source(key, task, place))
    for key, typed in (("num_beams", int), ("length_penalty", float)):
        if declared.get(key) is not None:
            yield Fact(f"parameters.{key}", typed(declared[key]), _source(key, task, place))
    yield from _lengths(files, declared, task, place)


def _refused(declared: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that would change translations, and are not served."""
    for key, idle in _NOT_SERVED.items():
        if declared.get(key) not in (None, idle):
            yield key
    if declared.get("num_beams") in (None, 1):
        yield from (key for key in _OF_GREEDY_SEARCH if declared.get(key))


def _source(key: str, task: Mapping[str, Any], place: str) -> str:
    return f"{CONFIG}: task_specific_params" if key in task else f"{place}: {key}"


def _ids(files: ExportFiles, declared: Mapping[str, Any], place: str) -> Iterator[Finding]:
    ends = declared.get("eos_token_id", files.config.get("eos_token_id"))
    start = declared.get("decoder_start_token_id", files.config.get("decoder_start_token_id"))
    if start is None:
        start = declared.get("bos_token_id", files.config.get("bos_token_id"))
    pad = declared.get("pad_token_id", files.config.get("pad_token_id"))
    eos_ids = ends if isinstance(ends, list) else [ends]
    for key, value, named in (
        ("parameters.rules.eos_ids", None if ends is None else eos_ids, "eos_token_id"),
        ("parameters.rules.start_id", start, "decoder_start_token_id"),
        ("parameters.pad_id", pad, "pad_token_id"),
    ):
        if value is None:
            yield Unknown(key, f"neither {GENERATION} nor {CONFIG} has a {named}")
        else:
            yield Fact(key, value, f"{place if named in declared else CONFIG}: {named}")


def _least(declared: Mapping[str, Any]) -> int:
    """Return the least length, the start token included."""
    if declared.get("min_new_tokens"):
        return int(declared["min_new_tokens"]) + 1
    return int(declared.get("min_length") or 0)


def _lengths(
    files: ExportFiles, declared: Mapping[str, Any], task: Mapping[str, Any], place: str
) -> Iterator[Finding]:
    positions = files.config.get("max_position_embeddings")
    if declared.get("max_new_tokens") is not None:
        usual, source = int(declared["max_new_tokens"]), _source("max_new_tokens", task, place)
    elif declared.get("max_length") not in (None, _USUAL_LENGTH):
        # The start token counts.
        usual, source = int(declared["max_length"]) - 1, _source("max_length", task, place)
    else:
        usual, source = _USUAL_LENGTH, f"{place} has no max_length: as transformers takes it"
        if isinstance(positions, int):
            usual = min(usual, positions - 1)
    if isinstance(positions, int):
        longest, of_longest = max(positions, usual), f"{CONFIG}: max_position_embeddings"
    else:
        longest, of_longest = max(_LONGEST, usual), "as many as a text may have"
    yield Fact("parameters.max_new_tokens", usual, source)
    yield Fact("parameters.max_target_length", longest, of_longest)
