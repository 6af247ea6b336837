"""English texts that are no headlines: talk, requests, single words, gibberish."""

import string
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.datasets.files import data_folder, read_jsonl
from models.datasets.near_copies import NearCopies, words_of

CLINC, MASSIVE, BANKING, TATOEBA = "clinc150", "massive_en_zh", "banking77", "tatoeba_zh_en"

_WRITTEN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
GREETINGS: tuple[str, ...] = tuple(_WRITTEN["trained"])
"""Small talk that is trained on most."""
HELD_OUT: dict[str, list[str]] = _WRITTEN["held_out"]
"""Texts for evaluation, by the name of their group; none is trained on."""

_COLUMNS = {CLINC: "text", MASSIVE: "en", BANKING: "text", TATOEBA: "en"}
_COMMON = 5  # how often a word occurs in the talk, to be trained on by itself
_ENDS = ("", "", ".", "!", "?", "...", "??", "!!")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SIGNS = ".,;:!?-_+*/=#&%$@()[]{}<>|~^'\"…–—•€£°"
_RANGES = ((0x1F300, 0x1F64F), (0x4E00, 0x9FA5), (0x410, 0x44F), (0x3B1, 0x3C9), (0x627, 0x64A))


def read_small_talk(root: Path) -> list[str]:
    """Read talk, requests, questions and everyday sentences to train on.

    Near copies of `HELD_OUT` are left out.
    """
    held_out = NearCopies(text for group in HELD_OUT.values() for text in group)
    rows = [
        row[column]
        for name, column in _COLUMNS.items()
        for row in read_jsonl(data_folder(root, name) / "train.jsonl.gz")
    ]
    return [text for text in rows if text not in held_out]


def common_words(talk: Sequence[str]) -> list[str]:
    """Return the words that occur in five texts or more and are not held out by themselves."""
    held_out = {words_of(text) for group in HELD_OUT.values() for text in group}
    counts = Counter(word for text in talk for word in words_of(text))
    return sorted(
        word
        for word, count in counts.items()
        if count >= _COMMON and frozenset([word]) not in held_out
    )


def few_words(words: Sequence[str], count: int, generator: np.random.Generator) -> list[str]:
    """Return texts of one word, or of two or three that have nothing to do with each other."""
    sizes = generator.choice([1, 1, 1, 2, 3], count)
    return [" ".join(generator.choice(words, size)) for size in sizes]


def with_other_ends(texts: Sequence[str], generator: np.random.Generator) -> list[str]:
    """Return the texts, half of them with other punctuation at the end, or none."""
    changed = []
    for text in texts:
        bare = text.rstrip(" .!?…")
        keeps = not bare or generator.random() < 0.5
        changed.append(text if keeps else bare + str(generator.choice(_ENDS)))
    return changed


def gibberish(count: int, generator: np.random.Generator) -> list[str]:
    """Return texts of one to five words without meaning: letters, numbers, signs, other scripts."""
    texts = []
    for kinds in generator.integers(len(_KINDS), size=(count, 2)):
        size = int(generator.integers(1, 6))
        chosen = generator.choice(kinds, size)
        texts.append(" ".join(_KINDS[kind](generator) for kind in chosen))
    return texts


def _some(letters: str, longest: int, generator: np.random.Generator) -> str:
    size = int(generator.integers(1, longest + 1))
    return "".join(generator.choice(list(letters), size))


def _letters(generator: np.random.Generator) -> str:
    return _some(string.ascii_lowercase, 10, generator)


def _keys(generator: np.random.Generator) -> str:
    """Return keys side by side, as fingers fall on a keyboard."""
    row = str(generator.choice(_KEYS))
    row = row if generator.random() < 0.7 else row[::-1]
    first = int(generator.integers(len(row) - 2))
    return row[first : first + int(generator.integers(2, 9))]


def _syllables(generator: np.random.Generator) -> str:
    """Return a word that could be one."""
    parts = []
    for _ in range(int(generator.integers(1, 4))):
        parts += [_some("bcdfghjklmnprstvwz", 2, generator), _some("aeiou", 1, generator)]
    return "".join(parts) + _some("lmnrst", 1, generator)


def _repeated(generator: np.random.Generator) -> str:
    return _some(string.ascii_lowercase, 3, generator) * int(generator.integers(2, 9))


def _number(generator: np.random.Generator) -> str:
    return _some(string.digits, 6, generator) + str(generator.choice(["", "", ".5", ":30", "%"]))


def _signs(generator: np.random.Generator) -> str:
    sign = _some(_SIGNS, 4, generator)
    return sign * int(generator.integers(1, 4))


def _other_script(generator: np.random.Generator) -> str:
    first, last = _RANGES[int(generator.integers(len(_RANGES)))]
    size = int(generator.integers(1, 9))
    return "".join(chr(code) for code in generator.integers(first, last + 1, size))


_KINDS: tuple[Callable[[np.random.Generator], str], ...] = (
    *(_letters, _keys, _syllables, _repeated, _number, _signs, _other_script),
)
