"""A text in pieces that a model reads whole, and the translated pieces as a text again.

A piece is a line. A line that does not fit is cut into its sentences; a sentence that alone does
not fit, behind clauses, then between words, then anywhere, but never within what a reader sees as
one character. What stands between pieces is kept as it is: line ends, spaces, rules of dashes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

import regex
import sentencex

from service.errors import is_panic
from service.transforms.language.literals import has_words

Fits: TypeAlias = Callable[[str], bool]
"""Whether the model reads so much at once."""

Span: TypeAlias = tuple[int, int]
"""Start and end of a piece in its text, in characters."""

UNSPACED: Final = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my", "bo", "dz"})
"""Languages that write no space between sentences."""

_GRAPHEME: Final = regex.compile(r"\X")
_CLAUSE: Final = regex.compile(r"(?:[，、；：；،؛—–…]+|[,;:](?=\s))[\p{Pe}\p{Pf}\"']*\s*")
_WORD: Final = regex.compile(r"\s+")
_MARKER: Final = regex.compile(r"(?:[-*+•·‣◦–—>#]+|\(?\d{1,3}[.)])\s+")
"""What a line of a list, a heading or a quotation begins with: translators lose it."""
_LEVELS: Final = (_CLAUSE, _WORD, _GRAPHEME)

_BLOCK: Final = 2_000
"""Characters given to the segmenter at once: on quotes that never close, or a line of tens of
thousands of characters, it takes seconds; on a block, milliseconds."""
_BLOCK_END: Final = regex.compile(r"^.*(?:[。！？!?]|[.]\s|\s)", regex.DOTALL)

_GOES_ON: Final = regex.compile(r"[とっのには、，がをもで]")
"""How a Japanese sentence goes on behind a quotation."""
_CLOSING: Final = regex.compile(r"[\p{Pe}\p{Pf}]\s*$")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece to translate."""

    text: str
    start: int
    """Where it begins in the source, in characters (Unicode code points)."""
    end: int
    before: str
    """What stands before its translation: what stood before it, or a space where the target's
    language wants one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text in pieces."""

    segments: tuple[Segment, ...]
    after: str
    """What stands behind the last one."""

    @classmethod
    def whole(cls, text: str) -> "Document":
        """Return a text that is one piece, as it is."""
        return cls((Segment(text, 0, len(text), ""),), "")

    def joined(self, translations: Sequence[str]) -> str:
        """Return the translation of it all."""
        parts = zip(self.segments, translations, strict=True)
        return "".join(f"{segment.before}{text}" for segment, text in parts) + self.after


@dataclass(frozen=True, slots=True)
class Splitting:
    """How to split."""

    source: str
    """Language of the text: ISO 639-1 where it has such a code."""
    target: str
    in_sentences: bool = False
    """Whether also lines that fit are cut into their sentences."""


def needs_splitting(text: str, how: Splitting, fits: Fits) -> bool:
    """Tell whether a text is more than one line that fits."""
    return how.in_sentences or text.splitlines() != [text] or not fits(text)


def split(text: str, how: Splitting, fits: Fits) -> Document:
    """Return a text in pieces that fit; `joined` with the pieces themselves, it is the text.

    Only a space is added between pieces that nothing separates, if the target's language writes
    one there. Pieces without words are no pieces: there is nothing to translate in them. One
    character of a reader's that alone does not fit stays a piece.
    """
    segments: list[Segment] = []
    at = 0
    gap = "" if how.target in UNSPACED else " "
    for start, end in _pieces(text, how, fits):
        between = text[at:start] or (gap if segments else "")
        segments.append(Segment(text[start:end], start, end, between))
        at = end
    return Document(tuple(segments), text[at:])


def _pieces(text: str, how: Splitting, fits: Fits) -> Iterator[Span]:
    at = 0
    for line in text.splitlines(keepends=True):
        span = _unmarked(text, _stripped(text, (at, at + len(line))))
        at += len(line)
        if not how.in_sentences and fits(text[slice(*span)]):
            found: Iterator[Span] = iter((span,))
        else:
            found = (
                piece
                for sentence in _sentences(text, span, how.source)
                for piece in _cut(text, sentence, fits)
            )
        yield from (piece for piece in found if has_words(text[slice(*piece)]))


def _stripped(text: str, span: Span) -> Span:
    """Return a span without the space around it."""
    start, end = span
    inner = text[start:end]
    if not inner or inner.isspace():
        return end, end
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    while start > span[0] and not _may_cut(text, start):  # a space with an accent on it
        start -= 1
    while end < span[1] and not _may_cut(text, end):
        end += 1
    return start, end


def _unmarked(text: str, span: Span) -> Span:
    """Return a line without the marks that it begins with, if it is more than they are."""
    start, end = span
    while (found := _MARKER.match(text, start, end)) and found.end() < end:
        if not _may_cut(text, found.end()):
            break
        start = found.end()
    return start, end


def _may_cut(text: str, at: int) -> bool:
    """Tell whether two characters, one of them a space or a mark, are two to a reader too."""
    seen = _GRAPHEME.match(text, at - 1)
    return seen is None or seen.end() == at


def _sentences(text: str, span: Span, language: str) -> Iterator[Span]:
    """Return the sentences of a line, without the space around them."""
    start, end = span
    while start < end:
        until = _block_end(text, start, end)
        ends = accumulate(map(len, _segmented(language, text[start:until])), initial=start)
        cuts = [at for at in ends if at in (start, until) or _may_cut(text, at)]
        yield from (_stripped(text, piece) for piece in pairwise(cuts))
        start = until


def _block_end(text: str, start: int, end: int) -> int:
    if end - start <= _BLOCK:
        return end
    found = _BLOCK_END.match(text[start : start + _BLOCK])
    if found is not None:
        return start + int(found.end())
    last = start
    for grapheme in _GRAPHEME.finditer(text, start, end):
        if grapheme.end() > start + _BLOCK and last > start:
            return last
        last = grapheme.end()
    return end


def _segmented(language: str, block: str) -> Sequence[str]:
    """Return the sentences of a block; together they are the block."""
    try:
        parts: list[str] = sentencex.segment(language, block)
    except BaseException as error:
        if not is_panic(error):
            raise
        return [block]
    if "".join(parts) != block:
        return [block]
    joined: list[str] = []
    for part in parts:
        if joined and _CLOSING.search(joined[-1]) and _GOES_ON.match(part):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _cut(
    text: str, span: Span, fits: Fits, levels: Sequence[regex.Pattern[str]] = _LEVELS
) -> Iterator[Span]:
    """Cut what does not fit, as few times as can be; a part that alone does not fit, finer."""
    start, end = span
    if fits(text[start:end]) or not levels:
        yield span
        return
    pattern, *finer = levels
    whole = {found.end() for found in _GRAPHEME.finditer(text, start, end)}
    ends = [e for found in pattern.finditer(text, start, end) if (e := found.end()) in whole]
    if not ends or ends[-1] != end:
        ends.append(end)
    index = 0
    while index < len(ends):
        taken = _most_that_fit(text, start, ends[index:], fits)
        part = _stripped(text, (start, ends[index + max(taken, 1) - 1]))
        yield from (part,) if taken else _cut(text, part, fits, finer)
        index += max(taken, 1)
        start = ends[index - 1]


def _most_that_fit(text: str, start: int, ends: Sequence[int], fits: Fits) -> int:
    """Return how many of the parts that end there fit together.

    Asked about twice as many each time, then halving: so it costs what the result is long, not
    what the text is.
    """

    def together(count: int) -> bool:
        begin, end = _stripped(text, (start, ends[count - 1]))
        return fits(text[begin:end])

    low, high = 0, 1
    while high <= len(ends) and together(high):
        low, high = high, high * 2
    high = min(high, len(ends) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if together(middle) else (low, middle)
    return low
