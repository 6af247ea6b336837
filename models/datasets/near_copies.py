"""Finding texts that are nearly the same as others, so that nothing evaluated is trained on."""

from collections import Counter
from collections.abc import Iterable

_COMMON = 300  # a word in more texts than this finds no near copy


class NearCopies:
    """`text in near_copies`: whether it shares 70 % of its words with one of the texts."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._words = [words_of(text) for text in texts]
        self._holders: dict[str, list[int]] = {}
        for row, words in enumerate(self._words):
            for word in words:
                self._holders.setdefault(word, []).append(row)

    def __contains__(self, text: str) -> bool:
        words = words_of(text)
        found = (self._holders.get(word, []) for word in words)
        candidates = Counter(row for rows in found if len(rows) <= _COMMON for row in rows)
        return any(
            len(words & self._words[row]) >= 0.7 * len(words | self._words[row])
            for row in candidates
        )


def words_of(text: str) -> frozenset[str]:
    """Return the different words of a text, in lower case, without punctuation."""
    return frozenset("".join(c if c.isalnum() else " " for c in text.lower()).split())
