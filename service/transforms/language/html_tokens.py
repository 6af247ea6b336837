"""HTML as parts with their places in the source, and what is known of HTML's elements.

The tokens are turbohtml's, which follows the HTML standard. No tree is built: what is nested a
hundred thousand deep costs what its characters cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import regex
from turbohtml import Token, TokenType, tokenize

_INLINE = (
    "a abbr acronym b bdi bdo big cite data del dfn em font i img ins label mark q s small span "
    "strike strong sub sup time tt u wbr"
)
INLINE: Final = frozenset(_INLINE.split())
"""Elements within a sentence. All others, except custom ones, stand between two texts."""
INLINE_KEPT: Final = frozenset(("code", "kbd", "samp", "var", "math", "svg"))
_KEPT = (
    "audio canvas iframe noembed noframes object plaintext pre script style template textarea "
    "video xmp"
)
KEPT: Final = INLINE_KEPT | frozenset(_KEPT.split())
"""Elements whose content is not translated."""
_VOID = "area base br col embed hr img input link meta param source track wbr"
VOID: Final = frozenset(_VOID.split())
_AFTER_P = (
    "address article aside blockquote center details dialog dir div dl dd dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr main menu nav ol p pre search section "
    "summary table ul"
)
CLOSED_BY: Final = {
    **dict.fromkeys(_AFTER_P.split(), frozenset(("p",))),
    "li": frozenset(("li", "p")),
    "dt": frozenset(("dt", "dd", "p")),
    "dd": frozenset(("dt", "dd", "p")),
    "tr": frozenset(("tr", "td", "th", "p")),
    "td": frozenset(("td", "th", "p")),
    "th": frozenset(("td", "th", "p")),
    "option": frozenset(("option",)),
}
"""Open elements that a start tag closes: their end tags are often left out."""
LOOK_BACK: Final = 64
"""Open elements that are searched for one of these."""

LINE_END: Final = regex.compile(r"\r\n|\r|\n")
_DROPPED: Final = "</>"
"""What the standard leaves out of a text."""


@dataclass(frozen=True, slots=True)
class Part:
    """A token with its place in the source."""

    kind: TokenType | None
    """None for what is neither text nor markup."""
    start: int
    end: int
    text: str = ""
    token: Token | None = None


def parts(source: str) -> Iterator[Part]:
    """Yield parts that together are the source."""
    lines = [0, *(found.end() for found in LINE_END.finditer(source))]
    tokens = list(tokenize(source, resolve_references=False, capture_source=True))
    places = [lines[token.line - 1] + token.col for token in tokens]
    ends = [*places, len(source)][1:]
    for token, start, end in zip(tokens, places, ends, strict=bool(tokens)):
        match token.type:
            case TokenType.TEXT:
                yield from _texts(source, start, end, token.data or "")
            case TokenType.CHARACTER_REFERENCE:
                until = min(start + len(token.source or ""), end)
                yield Part(token.type, start, until, token.data or "")
                yield from _texts(source, until, end, "")
            case _:
                yield Part(token.type, start, end, token=token)


def _texts(source: str, start: int, end: int, text: str) -> Iterator[Part]:
    """Yield the parts of a text token; the tokenizer drops `</>` and what is cut off at the end."""
    read = 0
    while read < len(text):
        dropped = source.find(_DROPPED, start, end)
        until = end if dropped < 0 else dropped
        taken = LINE_END.sub("\n", source[start:until])
        if not text.startswith(taken, read):  # a tag that the end of the source cuts off
            until = _end_of(source, start, text[read:])
            taken = text[read:]
        if until > start:
            yield Part(TokenType.TEXT, start, until)
        read, start = read + len(taken), until
        if until == dropped:
            yield Part(None, start, start + len(_DROPPED))
            start += len(_DROPPED)
        elif not taken:
            break
    if start < end:
        yield Part(None, start, end)


def _end_of(source: str, start: int, text: str) -> int:
    """Return where a text ends in the source, where a line end may have two characters."""
    for character in text:
        is_pair = character == "\n" and source.startswith("\r\n", start)
        start += 2 if is_pair else 1
    return start


def translates(token: Token, inherited: bool) -> bool:
    """Return whether the text of an element is translated."""
    declared = token.attr("translate")
    if declared is not None and declared.lower() in ("", "yes", "no"):
        return declared.lower() != "no"
    if token.tag in KEPT or "notranslate" in (token.attr("class") or "").split():
        return False
    return inherited
