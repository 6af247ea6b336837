"""The starter translator `zh-en` for every engine."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.texts import sentences_zh
from benchmarks.translation.ctranslate2_starter import write_ctranslate2
from benchmarks.translation.findings import QUARTET
from benchmarks.translation.workers import Worker
from models.starters.zh_en.graph_weights import weights_of_graphs

SUBJECT = "starter"
_VERSION = Path("zh-en", "1")
_STARTERS = Path("models/repository")
_TOKENIZERS = ("source_tokenizer.json", "target_tokenizer.json")
_LONGEST = 256
"""Places of a source and of a translation that CTranslate2 has codes for."""


@dataclass(frozen=True, slots=True)
class Starters:
    """Where everything is."""

    quartet: Path
    """A version in a model repository of its own, as it is."""
    quartet_int8: Path
    """The same, with int8 as the default."""
    ctranslate2: Path


def prepare(cache: Path) -> Starters:
    """Copy the starter, and make a model of CTranslate2 of it."""
    root = cache / "translation-starter"
    shutil.rmtree(root, ignore_errors=True)
    made = Starters(root / "quartet" / _VERSION, root / "int8" / _VERSION, root / "ctranslate2")
    for folder in (made.quartet, made.quartet_int8):
        shutil.copytree(_STARTERS / _VERSION, folder)
    _prefer_int8(made.quartet_int8 / "model.toml")
    make_ctranslate2(made.quartet, made.ctranslate2, "int8")
    return made


def make_ctranslate2(version: Path, folder: Path, quantization: str | None) -> None:
    """Write a version's network for CTranslate2, with its tokenizers."""
    source, target = (Tokenizer.from_file(str(version / name)) for name in _TOKENIZERS)
    vocabularies = _words(source), _words(target)
    weights = weights_of_graphs(version, _LONGEST, _LONGEST)
    write_ctranslate2(weights, vocabularies, folder, quantization)
    for name in _TOKENIZERS:
        shutil.copyfile(version / name, folder / name)


def lone_answers(version: Path) -> Mapping[int, Mapping[str, str]]:
    """Return the service's answers in fp32 to every sentence alone, by number of beams."""
    texts = sentences_zh()
    with Worker(QUARTET, version, 1, 1) as worker:
        return {
            beams: dict(zip(texts, worker.translate(texts, 1, beams)["answers"], strict=True))
            for beams in (1, 4)
        }


def _words(tokenizer: Tokenizer) -> list[str]:
    count = tokenizer.get_vocab_size()
    return [str(tokenizer.id_to_token(token)) for token in range(count)]


def _prefer_int8(manifest: Path) -> None:
    before = manifest.read_text(encoding="utf-8")
    after = before.replace('cpu = "fp32"', 'cpu = "int8"')
    if after == before:
        raise ValueError(f"{manifest} has another default than fp32")
    manifest.write_text(after, encoding="utf-8")
