"""What of a text must stay as it is: addresses, numbers, code, words; never parts of words."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from service.tasks import LiteralKind
from service.transforms.emoji import emoji_of

_LETTER = (
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]"
)
"""A letter or digit of a script that parts words by spaces."""

_URL = r"(?:https?|ftp)://[\x21-\x7e]*[\w/#=&%+~-]|www\.[\x21-\x7e]*[\w/]"
_EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
ADDRESS: Final = re.compile(f"{_URL}|{_EMAIL}", re.ASCII)
"""Of a page or of a person."""

_PATTERNS: Final[Mapping[str, str]] = {
    "code": r"(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)",
    "urls": _URL,
    "emails": _EMAIL,
    # {name}, {{name}}, {0:>8}, ${name}; %s, %5.2f, %1$s, %(name)d; %% is a percent sign.
    "placeholders": r"\$?\{\{?[^{}\s][^{}\n]{0,60}?\}?\}"
    r"|%(?:\d+\$|\(\w+\))?[-+#0]*\d*(?:\.\d+)?(?:[hlqjzt]{1,2})?[diouxXeEfFgGcsr@](?![a-zA-Z])",
    "numbers": rf"(?<!{_LETTER})\d+(?:[.,:/-]\d+)*(?:%|(?!{_LETTER}))",
}
_NUMBER: Final = re.compile(_PATTERNS["numbers"], re.ASCII)


def literals(text: str, kinds: Collection[LiteralKind]) -> list[str]:
    """Return what of a text is of some kinds, in order; what stands within another is none."""
    if not kinds:
        return []
    matches = _finder(frozenset(kinds)).finditer(text)
    found = [match.group() for match in matches if match.lastgroup in kinds]
    if "emoji" in kinds:
        found += emoji_of(text)
    return list(dict.fromkeys(found))


def is_number(literal: str) -> bool:
    """Tell whether a literal is nothing but a number."""
    return _NUMBER.fullmatch(literal) is not None


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds each of some words where it stands whole; of several the longest."""
    return _any_of(tuple(sorted(set(words), key=lambda word: (-len(word), word))))


@cache
def _finder(kinds: frozenset[str]) -> re.Pattern[str]:
    """Return what finds some kinds, and addresses in any case: nothing within them counts."""
    sought = kinds | {"urls", "emails"}
    return re.compile(
        "|".join(f"(?P<{kind}>{_PATTERNS[kind]})" for kind in _PATTERNS if kind in sought),
        re.ASCII,
    )


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
