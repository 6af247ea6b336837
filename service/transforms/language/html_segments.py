"""A sentence with inline markup: its parts, and the translated sentence with the markup in it.

Markup moves with its words. Where an element covers a part of a sentence, that part is also
translated alone, and the element is put around the words of the whole translation that are most
like it, or else stand where it stood. Where the translation has lost what must be kept, the
sentence is translated piece by piece instead.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.transforms.language.html import Mark, MarkKind, Page, Run
from service.transforms.language.html_alignment import Alignment, Window, without_stop
from service.transforms.language.literals import any_of, has_words

_MOST_NODES: Final = 32
"""Elements of one sentence that are placed by their words."""
_LONGEST_KEPT: Final = 100
"""Characters of what is kept within a sentence, to be found again in its translation."""


@dataclass(slots=True, eq=False)
class Node:
    """Markup within a sentence, over some of the characters of its run."""

    start: int
    end: int
    opening: str
    closing: str = ""
    kept: str = ""
    """Text of what is not translated; `opening` is then all of its source."""
    children: list["Node"] = field(default_factory=list)

    @property
    def is_point(self) -> bool:
        """Return whether it has no text."""
        return self.start == self.end


@dataclass(slots=True, eq=False)
class Sentence:
    """A segment of a run, and what replaces it in the source."""

    page: Page
    run: Run
    start: int
    """Characters of the run."""
    end: int
    marks: Sequence[Mark]
    """Those that belong to it."""
    source_start: int = 0
    """What is replaced in the source."""
    source_end: int = 0
    opening: str = ""
    """Markup around all of it."""
    closing: str = ""
    nodes: list[Node] = field(default_factory=list)
    is_cut: bool = False
    """Whether it has to be translated piece by piece."""

    @property
    def text(self) -> str:
        """Return what is translated."""
        return self.run.text[self.start : self.end]

    @property
    def kept(self) -> Sequence[str]:
        """Return what the translation must contain as it is."""
        return [mark.text for mark in self.marks if mark.kind is MarkKind.KEPT]

    def parts(self) -> Mapping[Node, str]:
        """Return the elements that are placed by their words, and their texts."""
        return {} if self.is_cut else dict(self._parts(self.nodes, (self.start, self.end)))

    def _parts(self, nodes: Sequence[Node], around: Window) -> Iterator[tuple[Node, str]]:
        for node in nodes:
            if node.is_point or node.kept:
                continue
            if (node.start, node.end) != around:
                yield node, self.run.text[node.start : node.end].strip()
            yield from self._parts(node.children, (node.start, node.end))

    def rendered(self, translation: str, parts: Mapping[Node, str]) -> str | None:
        """Return the translation with its markup.

        Args:
            translation: of `text`.
            parts: translations of `parts()`.

        Returns:
            None if something has no place in the translation: use `pieces`.
        """
        if self.is_cut:
            return None
        inner = _Placement(self, translation, parts).rendered()
        return None if inner is None else f"{self.opening}{inner}{self.closing}"

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Yield the sentence in the order of its source: markup and texts; the flag marks texts.

        Only texts with words are marked.
        """
        at = self.start
        for mark in self.marks:
            yield from self._piece(at, mark.at)
            at = mark.at
            if mark.kind is MarkKind.KEPT:
                at = min(at + len(mark.text), self.end)
            yield self.page.source[mark.start : mark.end], False
        yield from self._piece(at, self.end)

    def _piece(self, start: int, end: int) -> Iterator[tuple[str, bool]]:
        if start < end:
            text = self.run.text[start:end]
            yield (text, True) if has_words(text) else (self.page.escaped(text), False)


def sentences_of(page: Page, run: Run, spans: Sequence[Window]) -> Sequence[Sentence]:
    """Return the sentences of a run. `spans` are in order and do not overlap."""
    places = [mark.at for mark in run.marks]
    closed_at = {mark.element: mark.at for mark in run.marks if mark.kind is MarkKind.CLOSE}
    opened_at = {mark.element: mark.at for mark in run.marks if mark.kind is MarkKind.OPEN}
    found: list[Sentence] = []
    taken = 0
    for start, end in spans:
        first, low = bisect_left(places, start), bisect_right(places, start)
        high, last = bisect_left(places, end), bisect_right(places, end)
        first = max(first, taken)
        while first < low and not _begins(run.marks[first], closed_at):
            first += 1
        while last > high and not _ends(run.marks[last - 1], opened_at):
            last -= 1
        taken = max(first, last)
        found.append(_sentence(page, run, (start, end), run.marks[first:last]))
    return found


def _begins(mark: Mark, closed_at: Mapping[int, int]) -> bool:
    """Return whether markup before a sentence belongs to it."""
    if mark.kind is MarkKind.OPEN:
        return closed_at.get(mark.element, mark.at + 1) > mark.at
    return mark.kind is MarkKind.KEPT


def _ends(mark: Mark, opened_at: Mapping[int, int]) -> bool:
    """Return whether markup after a sentence belongs to it."""
    return mark.kind is MarkKind.CLOSE and opened_at.get(mark.element, -1) < mark.at


def _sentence(page: Page, run: Run, span: Window, marks: Sequence[Mark]) -> Sentence:
    start, end = span
    sentence = Sentence(page, run, start, end, marks, run.starts[start], run.ends[end - 1])
    if marks and marks[0].at == start:
        sentence.source_start = marks[0].start
    if marks and marks[-1].at == end:
        sentence.source_end = marks[-1].end
    kept = [mark for mark in marks if mark.kind is MarkKind.KEPT]
    sentence.is_cut = (
        len(marks) > 2 * _MOST_NODES
        or any(len(mark.text) > _LONGEST_KEPT or mark.at + len(mark.text) > end for mark in kept)
        or (bool(kept) and not any(is_text for _, is_text in sentence.pieces()))
    )
    if sentence.is_cut:
        return sentence
    nodes = _nodes(page.source, span, marks)
    while len(nodes) == 1 and (nodes[0].start, nodes[0].end) == span and not nodes[0].kept:
        sentence.opening += nodes[0].opening
        sentence.closing = nodes[0].closing + sentence.closing
        nodes = nodes[0].children
    sentence.nodes = nodes
    return sentence


def _nodes(source: str, span: Window, marks: Sequence[Mark]) -> list[Node]:
    """Return the markup of a sentence as trees."""
    start, end = span
    top: list[Node] = []
    open_: list[tuple[Node, Mark]] = []
    for mark in marks:
        level = open_[-1][0].children if open_ else top
        raw = source[mark.start : mark.end]
        match mark.kind:
            case MarkKind.OPEN:
                node = Node(mark.at, end, raw)
                level.append(node)
                open_.append((node, mark))
            case MarkKind.CLOSE if open_:
                node, opening = open_.pop()
                node.end, node.closing = mark.at, raw
                if node.is_point:
                    node.opening, node.closing = source[opening.start : mark.end], ""
                    node.children = []
            case MarkKind.CLOSE:  # its start tag is before the sentence
                top = [Node(start, mark.at, "", raw, "", top)]
            case MarkKind.POINT:
                level.append(Node(mark.at, mark.at, raw))
            case MarkKind.KEPT:
                level.append(Node(mark.at, mark.at + len(mark.text), raw, "", mark.text))
    return top


class _NoPlaceError(Exception):
    """Markup has no place in a translation."""


class _Placement:
    """Finds the places of a sentence's markup in its translation."""

    def __init__(self, sentence: Sentence, translation: str, parts: Mapping[Node, str]) -> None:
        self._sentence, self._text, self._parts = sentence, translation, parts
        self._alignment = Alignment(translation)

    def rendered(self) -> str | None:
        """Return the translation with its markup; None if some of it has no place."""
        sentence = self._sentence
        try:
            return self._within(
                sentence.nodes, (sentence.start, sentence.end), (0, len(self._text))
            )
        except _NoPlaceError:
            return None

    def _within(self, nodes: Sequence[Node], around: Window, window: Window) -> str:
        """Return a part of the translation with the markup in it."""
        places = self._places([node for node in nodes if not node.is_point], around, window)
        points = {
            node: (at, at)
            for node in nodes
            if node.is_point
            for at in (self._point(node, around, window, places),)
        }
        pieces, at = [], window[0]
        for node, (start, end) in sorted(
            (places | points).items(), key=lambda pair: (pair[1], pair[0].start)
        ):
            pieces.append(self._sentence.page.escaped(self._text[at:start]))
            if node.is_point or node.kept:
                pieces.append(node.opening)
            else:
                inner = self._within(node.children, (node.start, node.end), (start, end))
                pieces.append(f"{node.opening}{inner}{node.closing}")
            at = end
        pieces.append(self._sentence.page.escaped(self._text[at : window[1]]))
        return "".join(pieces)

    def _places(self, nodes: Sequence[Node], around: Window, window: Window) -> dict[Node, Window]:
        """Return the windows of elements. Raises _NoPlaceError."""
        places: dict[Node, Window] = {}
        for node in sorted(nodes, key=lambda node: not node.kept):  # those are certain
            if node.kept:
                found: Window | None = self._kept(node, window)
            elif (node.start, node.end) == around:
                found = window
            else:
                hint = _share((node.start + node.end) / 2, around)
                source = self._sentence.run.text[node.start : node.end]
                part = without_stop(source, self._parts[node].strip())
                found = self._alignment.like(part, window, hint)
            if found is not None and not _meets(found, places.values()):
                places[node] = found
        for node in nodes:
            if node not in places:
                share = (node.end - node.start) / (around[1] - around[0])
                hint = _share((node.start + node.end) / 2, around)
                free = self._alignment.free(window, places.values(), share, hint)
                if free is None or node.kept:
                    raise _NoPlaceError
                places[node] = free
        return {node: self._widened(node, place, around, window) for node, place in places.items()}

    def _widened(self, node: Node, place: Window, around: Window, window: Window) -> Window:
        """Return the place with the marks before its first word and after its last."""
        start, end = place
        if node.start == around[0] and not self._alignment.has_words((window[0], start)):
            start = window[0]
        if node.end == around[1] and not self._alignment.has_words((end, window[1])):
            end = window[1]
        return place if node.kept else (start, end)

    def _kept(self, node: Node, window: Window) -> Window:
        """Return where what is kept stands. Raises _NoPlaceError."""
        sentence = self._sentence
        pattern = any_of((node.kept,))
        before = pattern.findall(sentence.run.text, sentence.start, node.start)
        found = [match.span() for match in pattern.finditer(self._text)]
        if len(found) != len(pattern.findall(sentence.text)) or len(before) >= len(found):
            raise _NoPlaceError
        start, end = found[len(before)]
        if start < window[0] or end > window[1]:
            raise _NoPlaceError
        return start, end

    def _point(
        self, node: Node, around: Window, window: Window, places: Mapping[Node, Window]
    ) -> int:
        """Return where markup without text stands: next to its neighbour, else in proportion."""
        if node.start in around:
            return window[around.index(node.start)]
        for other, (start, end) in places.items():
            if other.end == node.start:
                return end
            if other.start == node.start:
                return start
        return self._alignment.boundary(window, places.values(), _share(node.start, around))


def _share(at: float, around: Window) -> float:
    return (at - around[0]) / (around[1] - around[0])


def _meets(place: Window, others: Collection[Window]) -> bool:
    return any(start < place[1] and place[0] < end for start, end in others)
