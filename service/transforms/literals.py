"""What of a text must stay as it is: addresses, numbers, given words; never parts of words."""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Final

from service.tasks import LiteralKind

_LETTER = (
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]"
)
"""A letter or digit of a script that parts words by spaces."""

_KINDS: Final = re.compile(
    r"(?P<urls>(?:https?|ftp)://[\x21-\x7e]*[\w/#=&%+~-]|www\.[\x21-\x7e]*[\w/])"
    r"|(?P<emails>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    rf"|(?P<numbers>(?<!{_LETTER})\d+(?:[.,:/-]\d+)*(?:%|(?!{_LETTER})))",
    re.ASCII,
)


def literals(text: str, kinds: Collection[LiteralKind]) -> list[str]:
    """Return the addresses and numbers of a text, in order; those within others are none."""
    if not kinds:
        return []
    found = (match for match in _KINDS.finditer(text) if match.lastgroup in kinds)
    return list(dict.fromkeys(match.group() for match in found))


def is_number(literal: str) -> bool:
    """Tell whether a literal is nothing but a number."""
    match = _KINDS.fullmatch(literal)
    return match is not None and match.lastgroup == "numbers"


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds each of some words where it stands whole; of several the longest."""
    return _any_of(tuple(sorted(set(words), key=lambda word: (-len(word), word))))


@cache
def _letter() -> re.Pattern[str]:
    return re.compile(_LETTER)


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(_whole(word) for word in words) or r"(?!)")


def _whole(word: str) -> str:
    pattern = re.escape(word)
    if _letter().match(word[0]):
        pattern = rf"(?<!{_LETTER})" + pattern
    if word[0].isdigit():
        pattern = r"(?<!\d[.,])" + pattern
    if _letter().match(word[-1]):
        pattern += rf"(?!{_LETTER})"
    if word[-1].isdigit():
        pattern += r"(?![.,]\d)"
    return pattern
