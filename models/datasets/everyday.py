"""Everyday sentences of the starter translator: pairs from patterns, and English alone."""

import random
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.datasets.files import Pair, data_folder, read_jsonl

_FILE = Path(__file__).with_name("everyday.toml")
_SLOT = re.compile(r"\{(\w+?)(2?)\}")
_ENDS = "。！？.!?"
_DIGITS = {"两": "2", "十": "10", "十一": "11", "十二": "12"} | dict(
    zip("一三四五六七八九", "13456789", strict=True)
)
_NUMERALS = "零一二三四五六七八九"
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_QUESTION = re.compile(
    r"(who|what|whats|what's|when|where|why|which|whose|how|is|are|am|was|were|do|does|did|can|could"
    r"|will|would|should|may|have|has)\b"
)
_WORD = re.compile(r"[A-Za-z']+")


def everyday_phrases() -> list[Pair]:
    """Return the phrases."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return [Pair(zh, en) for zh, en in table["phrases"]]


def everyday_pairs(count: int, seed: int) -> list[Pair]:
    """Return this many sentences of the patterns with slots filled at random."""
    table = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    rng = random.Random(seed)
    patterns = rng.choices(table["patterns"], k=count)
    return [_filled(zh, en, table["slots"], rng) for zh, en in patterns]


def _filled(zh: str, en: str, slots: Mapping[str, Any], rng: random.Random) -> Pair:
    chosen: dict[str, tuple[str, str]] = {}
    for name, second in _SLOT.findall(zh):
        chosen[name + second] = _value(name, slots, rng)
        while second and chosen[name + second] == chosen[name]:
            chosen[name + second] = _value(name, slots, rng)

    def fill(text: str, side: int) -> str:
        return _SLOT.sub(lambda slot: chosen[slot[1] + slot[2]][side], text)

    english = fill(en, 1)
    return Pair(fill(zh, 0), english[0].upper() + english[1:])


def _value(name: str, slots: Mapping[str, Any], rng: random.Random) -> tuple[str, str]:
    if name == "year":
        year = str(rng.randint(1900, 2040))
        return year, year
    if name == "dayn":
        day = str(rng.randint(1, 31))
        return day, day
    if name == "phone":
        phone = "".join(str(rng.randint(0, 9)) for _ in range(rng.choice((8, 11))))
        return phone, phone
    if name == "n":
        return _number(rng)
    zh, en = rng.choice(slots[name])
    if name == "hour" and rng.random() < 0.5:
        return _DIGITS[zh], en
    return zh, en


def _number(rng: random.Random) -> tuple[str, str]:
    """Return a number above one: small ones often in words, large ones in digits."""
    if rng.random() < 0.4:
        small = rng.randint(2, 12)
        if small > 10:
            return "十" + _NUMERALS[small - 10], _WORDS[small]
        return "两" if small == 2 else ("十" if small == 10 else _NUMERALS[small]), _WORDS[small]
    if rng.random() < 0.3:
        tens, ones = rng.randint(2, 9), rng.randint(0, 9)
        words = f"{_NUMERALS[tens]}十{_NUMERALS[ones] if ones else ''}"
        return words, str(10 * tens + ones)
    number = rng.choice((rng.randint(2, 99), rng.randint(100, 9999)))
    return str(number), str(number)


def english_sentences(data: Path, cased: Sequence[str]) -> list[str]:
    """Return what people say to assistants (CLINC150, Banking77, MASSIVE), written as sentences.

    They have no translations that fit: the Chinese side of MASSIVE names other places and people.

    Args:
        data: the folder of data sets.
        cased: English sentences that show which words begin with a capital.
    """
    rows: list[str] = []
    for name, key in (("clinc150", "text"), ("massive_en_zh", "en"), ("banking77", "text")):
        rows += [row[key] for row in read_jsonl(data_folder(data, name) / "train.jsonl.gz")]
    names = names_of(cased)
    fitting = [row for row in rows if 2 < len(row.split()) < 16 and "olly" not in row.lower()]
    return list(dict.fromkeys(as_sentence(row, names) for row in fitting))


def names_of(sentences: Sequence[str]) -> dict[str, str]:
    """Return words that sentences mostly write with a capital, also within, by lower case."""
    counts = Counter(word for text in sentences for word in _WORD.findall(text.partition(" ")[2]))
    best: dict[str, str] = {}
    for word, count in counts.items():
        if count > counts[best.get(word.lower(), "")]:
            best[word.lower()] = word
    return {lower: word for lower, word in best.items() if lower != word}


def as_sentence(text: str, names: Mapping[str, str]) -> str:
    """Return a text in lower case without a point as a sentence with both."""
    text = " ".join(text.split())
    if text == text.lower():
        text = _WORD.sub(lambda word: names.get(word[0], word[0]), text)
    text = text[0].upper() + text[1:]
    if text[-1] in _ENDS:
        return text
    return text + ("?" if _QUESTION.match(text.lower()) else ".")
