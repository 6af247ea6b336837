"""How a translator is asked for a text: as it is, in part, with terms to keep, or not at all.

Terms of a glossary must come through translation verbatim. First the text is translated as it is,
and the best hypothesis that has every term wins. If none has, each term is replaced by a
placeholder, a word that the model knows well, and put back afterwards if the placeholder occurs in
the translation exactly as often as in the text. If no placeholder works, the answer is the plain
translation, and it lists the terms that are missing.

A plan is a generator: it yields what to translate, is sent the translation, and returns the answer.
It has no side effects.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from service.families.translation.languages import Pair
from service.tasks import Alternative, FinishReason, KeptTerm, TranslateItem, Translation
from service.transforms.language.languages import plain_code
from service.transforms.language.literals import (
    Reduced,
    any_of,
    emoji_of,
    has_words,
    is_number,
    literals,
    reduced,
)
from service.transforms.language.segmentation import UNSPACED

Words: TypeAlias = tuple[tuple[str, str], ...]
"""Words in the source language, each with its translation by the model."""
Replacements: TypeAlias = Mapping[str, tuple[str, str]]
"""The placeholder of each term, as a word and its translation."""
Plan: TypeAlias = Generator[TranslateItem, Translation, Translation]

NAMES: Final[Words] = tuple((name, name) for name in ("Tom", "Anna", "Peter", "Maria", "Python"))
NUMBERS: Final[Words] = tuple((number, number) for number in ("100", "30", "15"))

# Attempts with placeholders; the first two use numbers for numbers.
_MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Words that a model translates as given here, in nearly any sentence."""

    names: Words = NAMES
    """Placeholders for names: each a word in the source and its translation."""
    numbers: Words = NUMBERS
    """Placeholders for numbers, likewise."""

    def attempts(self, text: str, terms: "Sequence[_Term]") -> Iterator[Replacements]:
        """Yield placeholders for the terms that occur neither in the text nor in the terms."""
        taken = "\n".join([text, *(term.target for term in terms)]).lower()
        free = [
            [pair for pair in pairs if not any(word.lower() in taken for word in pair)]
            for pairs in (self.names, self.numbers)
        ]
        for attempt in range(_MOST_ATTEMPTS):
            are_numbers = [is_number(term.source) and attempt < 2 for term in terms]  # noqa: PLR2004
            pools = []
            for pairs, wanted in zip(free, (False, True), strict=True):
                count = are_numbers.count(wanted)
                pools.append(iter(pairs[attempt * count : (attempt + 1) * count]))
            found = [next(pools[number], None) for number in are_numbers]
            named = {t.source: pair for t, pair in zip(terms, found, strict=True) if pair}
            if len(named) == len(terms):
                yield named


@dataclass(frozen=True, slots=True)
class _Term:
    source: str
    target: str
    count: int
    """Number of occurrences in the text."""


def plan(
    item: TranslateItem, num_beams: int, placeholders: Placeholders, languages: Callable[[], Pair]
) -> Plan | None:
    """Return how to translate an item; None if it is translated as it is.

    A text without words is its own translation. Emoji and invisible marks are hidden from the
    model, unless the glossary translates an emoji.

    Args:
        item: what to translate.
        num_beams: of its search.
        placeholders: for terms of a glossary.
        languages: returns the item's languages. Raises InvalidInputError.
    """
    has_own = any(source in item.text for source, _ in item.glossary)
    if not has_own and not has_words(item.text):
        return _unchanged(item, languages)
    less = None if any(emoji_of(source) for source, _ in item.glossary) else reduced(item.text)
    if less is not None:
        return _without_emoji(item, less, languages, num_beams, placeholders)
    if item.glossary or item.protect:
        return glossary_plan(item, num_beams, placeholders)
    return None


def _unchanged(item: TranslateItem, languages: Callable[[], Pair]) -> Plan:
    """Answer without the model."""
    yield from ()  # nothing to translate, and a generator all the same
    pair = languages()
    alternatives = (Alternative(item.text, None, FinishReason.STOP),) if item.alternatives else ()
    kept = _kept(literals(item.text, item.protect))
    return Translation(
        item.text, pair.source, pair.target, False, FinishReason.STOP, alternatives, kept
    )


def _without_emoji(
    item: TranslateItem,
    less: Reduced,
    languages: Callable[[], Pair],
    num_beams: int,
    placeholders: Placeholders,
) -> Plan:
    """Translate the rest of the text, and put the emoji back."""
    pair = languages()
    is_spaced = plain_code(pair.target) not in UNSPACED
    gap = " " if is_spaced and plain_code(pair.source) in UNSPACED else ""
    rest = replace(item, text=less.text, protect=tuple(k for k in item.protect if k != "emoji"))
    if rest.glossary or rest.protect:
        answer = yield from glossary_plan(rest, num_beams, placeholders)
    else:
        answer = yield rest
    kept = _kept(dict.fromkeys(emoji_of(item.text))) if "emoji" in item.protect else ()
    return replace(
        answer,
        text=less.restored(answer.text, gap),
        alternatives=tuple(
            replace(one, text=less.restored(one.text, gap)) for one in answer.alternatives
        ),
        glossary=answer.glossary + kept,
    )


def _kept(words: Iterable[str]) -> tuple[KeptTerm, ...]:
    return tuple(KeptTerm(word, word, True) for word in words)


def glossary_plan(item: TranslateItem, num_beams: int, placeholders: Placeholders) -> Plan:
    """Return how to translate an item with a glossary, or with literals to protect."""
    terms = _terms(item)
    bare = replace(item, glossary=(), protect=())
    if not terms or item.alternatives > num_beams:  # the latter is refused
        return (yield bare)
    everything = replace(bare, alternatives=num_beams)
    plain = yield everything
    wanted = _wanted(terms)

    def unchanged(text: str) -> str | None:
        return text if not wanted - _counted(text, wanted) else None

    if (best := _best(plain, unchanged, terms, item)) is not None:
        return best
    sources = any_of(term.source for term in terms)
    for named in placeholders.attempts(item.text, terms):
        answer = yield replace(everything, text=_replaced(named, sources, item.text))
        if (best := _best(answer, _restoring(terms, named), terms, item)) is not None:
            return best
    missing = wanted - _counted(plain.text, wanted)
    kept = tuple(KeptTerm(term.source, term.target, not missing[term.target]) for term in terms)
    return replace(plain, alternatives=plain.alternatives[: item.alternatives], glossary=kept)


def _terms(item: TranslateItem) -> list[_Term]:
    """Return the terms that occur in the text, in order."""
    pairs = {literal: literal for literal in literals(item.text, item.protect)}
    pairs |= dict(item.glossary)
    found = Counter(match.group() for match in any_of(pairs).finditer(item.text))
    return [_Term(source, pairs[source], count) for source, count in found.items()]


def _replaced(named: Replacements, sources: re.Pattern[str], text: str) -> str:
    return sources.sub(lambda match: named[match.group()][0], text)


def _wanted(terms: Sequence[_Term]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for term in terms:
        wanted[term.target] += term.count
    return wanted


def _counted(text: str, words: Counter[str]) -> Counter[str]:
    return Counter(match.group() for match in any_of(words).finditer(text))


def _restoring(terms: Sequence[_Term], named: Replacements) -> Callable[[str], str | None]:
    """Return a function that puts terms back; it returns None if placeholders are missing."""
    targets: dict[str, str] = {}
    for term in terms:
        word = named[term.source][1]
        targets |= {word: term.target, word[:1].upper() + word[1:]: term.target}
    known, wanted = any_of(targets), _wanted(terms)

    def restored(text: str) -> str | None:
        places: Counter[str] = Counter()
        for match in known.finditer(text):
            before, after = text[: match.start()][-1:], text[match.end() :][:1]
            if "-" in (before, after):  # part of another word, as in twenty-one
                return None
            places[match.group().lower()] += 1
        if any(places[named[term.source][1].lower()] != term.count for term in terms):
            return None
        whole = known.sub(lambda match: targets[match.group()], text)
        return whole if not wanted - _counted(whole, wanted) else None

    return restored


def _best(
    answer: Translation,
    kept: Callable[[str], str | None],
    terms: Sequence[_Term],
    item: TranslateItem,
) -> Translation | None:
    """Return the best hypothesis that has every term; None if there is none."""
    found = [
        replace(one, text=text)
        for one in answer.alternatives
        if (text := kept(one.text)) is not None
    ]
    if not found:
        return None
    best = found[0]
    is_whole = best.finish_reason is FinishReason.STOP
    return replace(
        answer,
        text=best.text,
        truncated=answer.truncated or not is_whole,
        finish_reason=best.finish_reason,
        alternatives=tuple(found[: item.alternatives]),
        glossary=tuple(KeptTerm(term.source, term.target, True) for term in terms),
    )
