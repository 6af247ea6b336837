"""HTML as texts to translate, and the markup that must survive.

A page is cut into runs: the text of a paragraph, a heading or a cell, with the inline markup in
it. Every character of a run knows its place in the source, so what is not translated is copied
from there byte for byte: tags, attributes, comments, scripts, white space between blocks. No tree
is built and nothing is serialised.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import regex
from turbohtml import Token, TokenType

from service.transforms.language.html_tokens import (
    CLOSED_BY,
    INLINE,
    INLINE_KEPT,
    LINE_END,
    LOOK_BACK,
    VOID,
    Part,
    parts,
    translates,
)
from service.transforms.language.literals import has_words

_SPACE: Final = regex.compile(r"[ \t\n\r\f]+")
_UNSPACED: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}，。、；：！？「」『』（）]")

_INVISIBLE: Final = regex.compile(r"[\p{Z}\p{Cf}]")
_SYMBOL: Final = regex.compile(r"[\p{S}&]")
"""What the source writes as a reference and translators lose."""


class MarkKind(StrEnum):
    """What markup within a run is."""

    OPEN = "open"
    CLOSE = "close"
    POINT = "point"
    """An image, a comment, an end tag without a start tag."""
    KEPT = "kept"
    """An element that is not translated, or a symbol. Its text is part of the run's text."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Markup within a run."""

    kind: MarkKind
    at: int
    """Index of the character of the run's text that it stands before."""
    start: int
    """Where it begins in the source."""
    end: int
    element: int = -1
    """Number of an element: its start tag and its end tag have the same."""
    text: str = ""
    """Of what is kept."""


@dataclass(slots=True, eq=False)
class Run:
    """The text of one block, without its markup; white space as a browser shows it."""

    text: str
    starts: Sequence[int]
    """Where each character begins in the source."""
    ends: Sequence[int]
    marks: Sequence[Mark]
    """In the order of the source."""


@dataclass(slots=True, eq=False)
class Page:
    """An HTML document, or a part of one."""

    source: str
    runs: Sequence[Run]
    """Those with words, in order."""
    references: dict[int, str]
    """Characters that the source writes as a character reference, by code point."""

    @property
    def text(self) -> str:
        """Return the texts of all runs, one a line."""
        return "\n".join(run.text for run in self.runs)

    def escaped(self, text: str) -> str:
        """Return a text as HTML; characters are written as references where the source did."""
        return text.translate(self.references)


def parse_html(source: str) -> Page:
    """Return the runs of an HTML document or fragment. Any text is valid HTML."""
    reader = _Reader(source)
    for part in parts(source):
        reader.read(part)
    reader.end_run()
    references = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", 0xA0: "&nbsp;"}
    return Page(source, reader.runs, reader.references | references)


@dataclass(slots=True, eq=False)
class _Element:
    name: str
    is_inline: bool
    is_translated: bool
    number: int


@dataclass(slots=True, eq=False)
class _Reader:
    source: str
    runs: list[Run] = field(default_factory=list)
    references: dict[int, str] = field(default_factory=dict)
    _open: list[_Element] = field(default_factory=list)
    _names: Counter[str] = field(default_factory=Counter)
    _elements: int = 0
    _text: list[str] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)
    _marks: list[Mark] = field(default_factory=list)
    _kept: tuple[int, int] | None = None
    """Number and start of the element within the run that is being kept."""
    _kept_text: list[str] = field(default_factory=list)
    _space: tuple[int, int] | None = None
    """White space that has been read and not added."""

    def read(self, part: Part) -> None:
        match part.kind:
            case TokenType.TEXT:
                self._add_text(part)
            case TokenType.CHARACTER_REFERENCE:
                self._add_reference(part)
            case TokenType.START_TAG if part.token is not None:
                self._start(part.token, part)
            case TokenType.END_TAG if part.token is not None:
                self._end(part.token.tag or "", part)
            case TokenType.DOCTYPE:
                self.end_run()
            case _:
                self._add_point(part)

    def end_run(self) -> None:
        """End the text of a block."""
        text = "".join(self._text)
        if has_words(text):
            self.runs.append(Run(text, self._starts, self._ends, self._marks))
        self._text, self._starts, self._ends, self._marks = [], [], [], []
        self._space = self._kept = None

    @property
    def _is_translated(self) -> bool:
        return self._open[-1].is_translated if self._open else True

    def _add_text(self, part: Part) -> None:
        if self._kept is not None:
            self._kept_text.append(self.source[part.start : part.end])
        elif self._is_translated:
            at = part.start
            for space in _SPACE.finditer(self.source, part.start, part.end):
                self._add_word(self.source[at : space.start()], at)
                if self._space is None:
                    self._space = space.span()
                at = space.end()
            self._add_word(self.source[at : part.end], at)

    def _add_reference(self, part: Part) -> None:
        written = self.source[part.start : part.end]
        if len(part.text) == 1 and written.endswith(";") and not part.text.isascii():
            self.references.setdefault(ord(part.text), written)
        if self._kept is not None:
            self._kept_text.append(part.text)
        elif not self._is_translated:
            return
        elif _INVISIBLE.fullmatch(part.text):
            self._add_invisible(part)
        elif _SYMBOL.fullmatch(part.text):
            self._settle_space()
            self._kept_text = [part.text]
            self._add_kept(part.start, part.end)
        else:
            self._settle_space(part.text)
            self._append(part.text, [part.start] * len(part.text), [part.end] * len(part.text))

    def _add_invisible(self, part: Part) -> None:
        """Add a space of a certain kind, or a character without width, as markup."""
        if part.text.isspace() and self._space is None:
            self._space = part.start, part.start
        self._add_point(part)

    def _add_word(self, word: str, start: int) -> None:
        if word:
            self._settle_space(word)
            end = start + len(word)
            self._append(word, range(start, end), range(start + 1, end + 1))

    def _append(self, text: str, starts: Sequence[int], ends: Sequence[int]) -> None:
        self._text.append(text)
        self._starts.extend(starts)
        self._ends.extend(ends)

    def _settle_space(self, following: str = "") -> None:
        """Add the white space that was read: one space; none between unspaced characters."""
        if self._space is None:
            return
        (start, end), self._space = self._space, None
        last = self._text[-1][-1:] if self._text else ""
        is_broken = LINE_END.search(self.source, start, end) is not None
        if is_broken and _UNSPACED.match(last) and _UNSPACED.match(following):
            return
        if last not in ("", " "):
            self._append(" ", (start,), (end,))

    def _mark(
        self, kind: MarkKind, start: int, end: int, element: int = -1, text: str = ""
    ) -> None:
        self._settle_space()
        self._marks.append(Mark(kind, len(self._starts), start, end, element, text))

    def _add_point(self, part: Part) -> None:
        if self._kept is None and self._is_translated:
            self._mark(MarkKind.POINT, part.start, part.end)

    def _start(self, token: Token, part: Part) -> None:
        name = token.tag or ""
        self._close_implied(name, part)
        is_inline = name in INLINE or name in INLINE_KEPT or "-" in name
        was_translated = self._is_translated
        is_translated = translates(token, was_translated)
        if not is_inline or (is_translated and not was_translated):
            self.end_run()
        if name in VOID:
            if is_inline:
                self._add_point(part)
            return
        self._elements += 1
        element = _Element(name, is_inline, is_translated, self._elements)
        self._open.append(element)
        self._names[name] += 1
        if was_translated and not is_translated:
            if is_inline:
                self._settle_space()
                self._kept, self._kept_text = (element.number, part.start), []
        elif is_inline and is_translated:
            self._mark(MarkKind.OPEN, part.start, part.end, element.number)

    def _close_implied(self, name: str, part: Part) -> None:
        closed = CLOSED_BY.get(name, frozenset())
        for element in reversed(self._open[-LOOK_BACK:] if closed else ()):
            if element.name in closed:
                self._close_to(element.name, part.start, part.start)
                return
            if not element.is_inline:
                return

    def _end(self, name: str, part: Part) -> None:
        if self._names[name]:
            self._close_to(name, part.start, part.end)
        elif name in INLINE or "-" in name:
            self._add_point(part)
        else:
            self.end_run()

    def _close_to(self, name: str, start: int, end: int) -> None:
        """Close the innermost element of this name, and those within it."""
        while True:
            element = self._open.pop()
            self._names[element.name] -= 1
            is_last = element.name == name
            until = end if is_last else start
            if self._kept is not None and self._kept[0] == element.number:
                self._add_kept(self._kept[1], until)
            elif not element.is_inline or element.is_translated != self._is_translated:
                self.end_run()
            elif element.is_translated:
                self._mark(MarkKind.CLOSE, start, until, element.number)
            if is_last:
                return

    def _add_kept(self, start: int, end: int) -> None:
        self._kept = None
        text = _SPACE.sub(" ", "".join(self._kept_text)).strip()
        if not text:
            self._mark(MarkKind.POINT, start, end)
            return
        self._mark(MarkKind.KEPT, start, end, text=text)
        self._append(text, [start] * len(text), [end] * len(text))
