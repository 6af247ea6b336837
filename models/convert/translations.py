"""Goldens of translators and generators: what `generate` writes, in the languages they know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from transformers import AutoTokenizer

from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.convert.samples import Contents
from models.version_files import Goldens
from service.families import FAMILIES
from service.families.translation.search.repetition import period
from service.families.translation.texts import TranslatorParameters
from service.repository.manifest import MANIFEST_NAME, Manifest, read_parameters
from service.transforms.language.literals import has_words, reduced

TRANSLATORS: Final = ("encoder_decoder", "encoder_decoder_steps")
"""The families whose goldens these are."""

GENERATORS: Final = ("generator", "generator_steps")
"""The families of texts written from others."""

_PAIRS = 2
"""Of languages: one could come right by chance."""


@dataclass(frozen=True, slots=True)
class Pair:
    """How a translation between two languages is asked for, of the service and of transformers."""

    said: dict[str, str] = field(default_factory=dict)
    """`source` and `target` of an item, as far as it must say them."""
    before: str = ""
    """Written before the text, for transformers."""
    source: str | None = None
    """Options of transformers' tokenizer."""
    target_token: str | None = None
    """What the translation must begin with."""


def record_translations(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, goldens: Goldens
) -> None:
    """Add what the model writes by its generation config, and the first texts greedily too.

    Translations that say the same over and over are left out: the service would stop them.

    Raises:
        CheckpointError: no translation is left.
    """
    words = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    own = read_parameters(manifest.parameters, FAMILIES[manifest.family].parameters)
    asked: list[tuple[Pair, str, dict[str, Any]]] = []
    # The service takes emoji and invisible marks out of a text before the model reads it, and does
    # not translate a text without words: the original's answer to such a text is no golden.
    texts = [text for text in contents.texts if reduced(text) is None and has_words(text)]
    for number, pair in enumerate(pairs(own)[:_PAIRS]):
        asked += [(pair, text, {}) for text in texts]
        if not number and own.num_beams > 1:
            asked += [(pair, text, {"num_beams": 1}) for text in texts[:2]]
    for pair, text, options in asked:
        ids = _written(checkpoint, words, pair, text, options)
        if not _loops(ids, own.loop_window):
            answer = {"translation": words.decode(ids, skip_special_tokens=True)}
            goldens.add_text(text, answer, **options, **pair.said)
    _refuse_loops(bool(asked), goldens)


def record_texts(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, goldens: Goldens
) -> None:
    """Add what a generator writes by the options of its manifest, and a text greedily too.

    Raises:
        CheckpointError: every text repeats itself, which the service would stop.
    """
    words = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    own = read_parameters(manifest.parameters, FAMILIES[manifest.family].parameters)
    usual = {
        "num_beams": own.num_beams,
        "length_penalty": own.length_penalty,
        "max_new_tokens": own.defaults.max_new_tokens,
        "min_length": own.rules.min_length,
        "early_stopping": own.rules.early_stopping,
        "no_repeat_ngram_size": own.rules.no_repeat_ngram_size,
    }
    asked: list[tuple[str, dict[str, Any]]] = [(text, {}) for text in contents.texts]
    if own.num_beams > 1:
        asked += [(text, {"num_beams": 1, "early_stopping": False}) for text in contents.texts[:2]]
    for text, options in asked:
        ids = _written(checkpoint, words, Pair(before=own.prefix), text, {**usual, **options})
        if not _loops(ids, own.loop_window):
            item = {key: value for key, value in options.items() if key != "early_stopping"}
            answer = {"text": words.decode(ids, skip_special_tokens=True)}
            goldens.add_text(text, answer, **item)
    _refuse_loops(bool(asked), goldens)


def _refuse_loops(has_asked: bool, goldens: Goldens) -> None:
    if has_asked and not goldens.records:
        raise CheckpointError(
            "it says the same over and over to every text: give --goldens with texts that it can "
            f"translate, or say loop_window = 0 in {MANIFEST_NAME}"
        )


def pairs(own: TranslatorParameters) -> Sequence[Pair]:
    """Return pairs of languages that a model translates between, the usual one first."""
    if own.prefixes:
        return [
            Pair(dict(zip(("source", "target"), name.split("-", 1), strict=True)), prefix)
            for name, prefix in own.prefixes.items()
        ]
    if own.template == "eos":
        return [Pair()]
    source, usual = own.source_language or next(iter(own.languages)), own.target_language
    first, *others = [code for code in own.languages if code not in (source, usual)] or [source]
    targets = [first, *reversed(others)]
    if own.template == "target_eos":
        return [
            *([] if usual is None else [Pair()]),
            *(Pair({"target": code}, f"{own.languages[code]} ") for code in targets),
        ]
    return [
        Pair({"source": source, "target": code}, "", source, own.languages[code])
        for code in (targets if usual is None else [usual, *targets])
    ]


def _loops(ids: Sequence[int], window: int) -> bool:
    written = np.array(ids)
    return any(period(written[:end], window) for end in range(window, len(ids) + 1))


def _written(
    checkpoint: Checkpoint, words: Any, pair: Pair, text: str, options: Mapping[str, Any]
) -> Sequence[int]:
    """Return the tokens that `generate` writes."""
    options = dict(options)
    if pair.source is not None:
        words.src_lang = pair.source
    if pair.target_token is not None:
        options["forced_bos_token_id"] = words.convert_tokens_to_ids(pair.target_token)
    read = words(pair.before + text, truncation=True, return_tensors="pt")
    read.pop("token_type_ids", None)
    ids: list[int] = checkpoint.model.generate(**read, **options)[0].tolist()
    return ids
