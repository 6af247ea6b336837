"""Which words of a translated sentence are those of a part of the sentence.

The part is also translated alone; of the sentence's translation the words are taken that are most
like that. Where no words are like it, those are taken that stand where the part stood, and that no
other part has.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import regex

from service.transforms.language.literals import any_of

Window: TypeAlias = tuple[int, int]
"""First character and end of a part of a text."""

_MOST_COMPARISONS: Final = 100_000
"""Of words, for one sentence: a tenth of a second."""
_LEAST_LIKENESS: Final = 0.5
_LONGER: Final = 2
"""How many more words a part may have in the sentence than alone."""
_STEM: Final = 4
_STEM_SHARE: Final = 0.6
"""Two words are forms of one if they begin with as many equal letters, and as large a share."""

_STOPS: Final = (".", "。")

_WORD: Final = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    r"|[\p{L}\p{N}\p{M}]+(?:['’]\p{L}+)?"
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text; in scripts without spaces, a character."""

    start: int
    end: int
    text: str
    """In lower case."""


def words_of(text: str) -> Sequence[Word]:
    """Return the words of a text."""
    return [Word(*found.span(), found.group().casefold()) for found in _WORD.finditer(text)]


class Alignment:
    """Finds parts of a sentence in its translation."""

    def __init__(self, translation: str) -> None:
        self._text = translation
        self._words = words_of(translation)
        self._comparisons = _MOST_COMPARISONS

    def has_words(self, window: Window) -> bool:
        """Return whether a part of the translation has words."""
        return bool(self._within(window))

    def like(self, part: str, window: Window, hint: float) -> Window | None:
        """Return the words that are most like those of a part's own translation.

        Args:
            part: the translation of the part alone.
            window: where to look.
            hint: where the part is expected, from 0 to 1; of equally good places, the nearest.
        """
        same = [found.span() for found in any_of((part,)).finditer(self._text, *window)]
        if same and part:
            return min(same, key=lambda place: self._distance(place, window, hint))
        inner = words_of(part)
        words = self._within(window)
        self._comparisons -= len(words) * (len(inner) + _LONGER)
        if self._comparisons < 0:
            return None
        known = [_same_in(inner, word.text) for word in words]
        found = [
            (likeness, -self._distance((words[first].start, words[last].end), window, hint), place)
            for first, last, likeness in _stretches(known, inner)
            for place in ((words[first].start, words[last].end),)
        ]
        best = max(found, default=None)
        return best[2] if best is not None and best[0] >= _LEAST_LIKENESS else None

    def free(
        self, window: Window, taken: Collection[Window], share: float, hint: float
    ) -> Window | None:
        """Return words that no other part has, nearest to where the part is expected.

        Args:
            window: where to look.
            taken: the places of other parts.
            share: how much of the window's words to return, from 0 to 1.
            hint: as for `like`.
        """
        words = self._within(window)
        count = max(1, round(share * len(words)))
        is_free = [
            not any(start < word.end and word.start < end for start, end in taken) for word in words
        ]
        while count:
            places = [
                (words[first].start, words[first + count - 1].end)
                for first in range(len(words) - count + 1)
                if all(is_free[first : first + count])
            ]
            if places:
                return min(places, key=lambda place: self._distance(place, window, hint))
            count //= 2
        return None

    def boundary(self, window: Window, taken: Collection[Window], hint: float) -> int:
        """Return the start or end of a word, or the end of the window, nearest to a place."""
        wanted = window[0] + hint * (window[1] - window[0])
        places = [
            at
            for word in self._within(window)
            for at in (word.start, word.end)
            if not any(start < at < end for start, end in taken)
        ]
        return min([*places, window[1]], key=lambda at: abs(at - wanted))

    def _within(self, window: Window) -> Sequence[Word]:
        start, end = window
        return [word for word in self._words if start <= word.start and word.end <= end]

    @staticmethod
    def _distance(place: Window, window: Window, hint: float) -> float:
        middle = (place[0] + place[1]) / 2 - window[0]
        return abs(middle / max(window[1] - window[0], 1) - hint)


def without_stop(source: str, translation: str) -> str:
    """Return the translation of a part of a sentence without a full stop that its source lacks."""
    if translation.endswith(_STOPS) and not source.rstrip().endswith(_STOPS):
        return translation[:-1]
    return translation


def _stretches(
    known: Sequence[str | None], inner: Sequence[Word]
) -> Sequence[tuple[int, int, float]]:
    """Return stretches of words that begin and end with a word of a part, and their likeness.

    The likeness is the F1 score of the words they share.
    """
    wanted = Counter(word.text for word in inner)
    found = []
    for first, same in enumerate(known):
        if same is None:
            continue
        met: Counter[str] = Counter()
        hits = 0
        for last, met_word in enumerate(known[first : first + len(inner) + _LONGER], first):
            if met_word is not None:
                met[met_word] += 1
                hits += met[met_word] <= wanted[met_word]
                found.append((first, last, 2 * hits / (len(inner) + last - first + 1)))
    return found


def _same_in(inner: Sequence[Word], word: str) -> str | None:
    """Return the word of a part that a word of the sentence is, or is a form of."""
    texts = [one.text for one in inner]
    return word if word in texts else next((text for text in texts if _is_form(word, text)), None)


def _is_form(one: str, other: str) -> bool:
    """Return whether two words begin alike, as `library` and `libraries` do."""
    shared = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        shared += 1
    return shared >= max(_STEM, _STEM_SHARE * max(len(one), len(other)))
