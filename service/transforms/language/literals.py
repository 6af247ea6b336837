"""What of a text must stay as it is: addresses, numbers, code, words; never parts of words."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import regex

from service.tasks import LiteralKind

_PICTURE = r"[\p{Emoji_Presentation}[\p{Extended_Pictographic}&&[\u2300-\U0010ffff]]]"
EMOJI: Final = (
    r"(?:\p{Regional_Indicator}{2}|[0-9#*]\ufe0f?\u20e3|\p{Extended_Pictographic}\ufe0f"
    rf"|{_PICTURE})[\ufe0f\p{{Emoji_Modifier}}]*"
    r"(?:\u200d\p{Extended_Pictographic}[\ufe0f\p{Emoji_Modifier}]*)*[\U000e0020-\U000e007f]*"
)
"""Pattern of one emoji, for `regex.V1`. Signs such as © count only with an emoji selector."""


@cache  # the patterns with emoji take 16 ms to compile, so only what translates compiles them
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.V1)


def emoji_of(text: str) -> Sequence[str]:
    """Return the emoji of a text, in order."""
    return [] if text.isascii() else [match.group() for match in _compiled(EMOJI).finditer(text)]


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


_LETTER_UNTRANSLATED: Final = regex.compile(r"[[\p{L}\p{Nl}]--[ªº]]", regex.V1)
"""Chinese, Japanese and Roman numerals are letters; digits of all scripts are not."""
_TIMESTAMP: Final = regex.compile(
    r"\s*\d{4}-?\d\d-?\d\dT\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?\s*"
)
"""ISO 8601, whose T and Z are no words."""

_INVISIBLE = (
    # A joiner and a non-joiner shape letters of the scripts that join them; a space of no width
    # parts the words of scripts without spaces.
    r"(?:(?<![[\p{L}\p{M}]--[\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}"
    r"\p{Hangul}]])[\u200c\u200d]"
    r"|(?<![\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}])\u200b"
    r"|[[\p{Default_Ignorable_Code_Point}\ufffc]--[\u200b-\u200d\u180b-\u180f\u115f\u1160]]"
    r"|[\p{Cc}--[\t-\r\x1c-\x1e\x85]])"
)
_SET_APART: Final = rf"(?P<emoji>{EMOJI})|{_INVISIBLE}"
_MAY_BE_APART: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\xad\u034f\u061c\u17b4\u17b5\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u20e3\u2300-\u2bff\u3030\u303d\u3164\u3297\u3299"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U0001f000-\U0001ffff\U000e0000-\U000e0fff]"
)
"""Every match of `_SET_APART` has one of these. Most texts have none, and this finds out sooner."""
_BEFORE: Final = rf"(?:\s*(?:{EMOJI}|{_INVISIBLE}))+\s*"
_AFTER: Final = rf"\s*(?:(?:{EMOJI}|{_INVISIBLE})\s*)+$"
_MARKS: Final = regex.compile(r"[，、；：。！？…]+|[,;:.!?]+(?!\w)")
_MARK_BEFORE: Final = regex.compile(r"[，、；：。！？…,;:.!?]\s*$")


def has_words(text: str) -> bool:
    """Tell whether a text has anything to translate.

    Numbers, dates, prices, punctuation, emoji, addresses and white space are nothing.
    """
    if not (text[:1].isalpha() or _LETTER_UNTRANSLATED.search(text)):
        return False
    if "@" in text or "//" in text or "www." in text:
        return _LETTER_UNTRANSLATED.search(ADDRESS.sub("", text)) is not None
    return not (text.isascii() and _TIMESTAMP.fullmatch(text))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an emoji stood within a text."""

    emoji: str
    marks: int
    """Punctuation marks before it."""
    follows_mark: bool
    """Whether it stood right behind the last of them; else it goes with the rest of its clause."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """A text without its emoji and invisible marks, and how to put the emoji back."""

    text: str
    before: str
    """Emoji and white space that the text began with."""
    after: str
    """The same of its end."""
    within: Sequence[Place]
    marks: int
    """Punctuation marks of `text`."""

    def restored(self, translation: str, gap: str) -> str:
        """Return a translation with all emoji.

        One from within a sentence goes where its clause ends, or to the end of the translation if
        that has other clauses.

        Args:
            translation: of `text`.
            gap: what stands between a word and an emoji where nothing did.
        """
        marks = list(_MARKS.finditer(translation)) if self.within else []
        is_alike = len(marks) == self.marks
        parts, at = [], 0
        for place in self.within:
            if not is_alike or place.marks >= len(marks) + place.follows_mark:
                until = len(translation)
            elif place.follows_mark:
                until = marks[place.marks - 1].end()
            else:
                until = marks[place.marks].start()
            parts += [translation[at:until], gap, place.emoji]
            at = until
        parts.append(translation[at:])
        before = self.before + (gap if self.before and not self.before[-1].isspace() else "")
        after = (gap if self.after and not self.after[0].isspace() else "") + self.after
        return before + "".join(parts) + after


def reduced(text: str) -> Reduced | None:
    """Return a text without emoji and invisible marks; None if it has none of them."""
    if (text.isascii() and text.isprintable()) or not _MAY_BE_APART.search(text):
        return None
    if not _compiled(_SET_APART).search(text):
        return None
    start = found.end() if (found := _compiled(_BEFORE).match(text)) else 0
    end = found.start() if (found := _compiled(_AFTER).search(text, start)) else len(text)
    kept, within, at = "", [], start
    for match in _compiled(_SET_APART).finditer(text, start, end):
        kept += text[at : match.start()]
        at = match.end()
        if emoji := match["emoji"]:
            marks = len(_MARKS.findall(kept))
            within.append(Place(emoji, marks, _MARK_BEFORE.search(kept) is not None))
            if kept[-1:].isspace() and text[at : at + 1].isspace():
                at += 1
    kept += text[at:end]
    return Reduced(
        kept,
        _visible(text[:start]),
        _visible(text[end:]),
        within,
        len(_MARKS.findall(kept)),
    )


def _visible(edge: str) -> str:
    """Return emoji and white space without the invisible marks that belong to no emoji."""
    return _compiled(_SET_APART).sub(lambda match: match["emoji"] or "", edge)
