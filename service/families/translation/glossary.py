"""Words that must stand in a translation as they are given, checked and never taken on trust.

First the text is translated as it is: of the hypotheses the best one counts that has every term.
If none has, each term is replaced by a stand-in, a word that the model knows well, and put in the
stand-in's place afterwards, if that came out of the translation exactly as often as it went in.
If no stand-in does, the translation is the plain one, and it is told which terms it misses.

A plan of tries is a generator: it yields what to translate, is sent the translation, and returns
the answer. It decides; others act.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from service.tasks import FinishReason, KeptTerm, TranslateItem, Translation
from service.transforms.language.literals import any_of, is_number, literals

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""A word in the source language, and what the model makes of it."""
StandInOf: TypeAlias = Mapping[str, tuple[str, str]]
"""By the word that it stands for."""
Plan: TypeAlias = Generator[TranslateItem, Translation, Translation]

NAMES: Final[Pairs] = tuple((name, name) for name in ("Tom", "Anna", "Peter", "Maria", "Python"))
NUMBERS: Final[Pairs] = tuple((number, number) for number in ("100", "30", "15"))

_MOST_STAND_INS = 3
"""Times that a text is translated with stand-ins; those for numbers come first, for numbers."""


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Words that a model translates as they are given here, in nearly any sentence."""

    names: Pairs = NAMES
    """Stand-ins of names: what the source has, and what the translation has."""
    numbers: Pairs = NUMBERS
    """Stand-ins of numbers, likewise."""

    def chosen(self, text: str, terms: "Sequence[_Term]") -> Iterator[StandInOf]:
        """Yield stand-ins by the word that they stand for, which neither text nor terms have."""
        taken = "\n".join([text, *(term.target for term in terms)]).lower()
        free = [
            [pair for pair in pairs if not any(word.lower() in taken for word in pair)]
            for pairs in (self.names, self.numbers)
        ]
        for attempt in range(_MOST_STAND_INS):
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
    """How often it stands in the text."""


def plan(item: TranslateItem, num_beams: int, stand_ins: Placeholders) -> Plan:
    """Return how an item with a glossary is translated, by a search of so many beams."""
    terms = _terms(item)
    bare = replace(item, glossary=(), protect=())
    if not terms or item.alternatives > num_beams:  # the latter is refused
        return (yield bare)
    everything = replace(bare, alternatives=num_beams)
    plain = yield everything
    wanted = _wanted(terms)

    def as_it_is(text: str) -> str | None:
        return text if not wanted - _counted(text, wanted) else None

    if (best := _best(plain, as_it_is, terms, item)) is not None:
        return best
    sources = any_of(term.source for term in terms)
    for named in stand_ins.chosen(item.text, terms):
        answer = yield replace(everything, text=_with(named, sources, item.text))
        if (best := _best(answer, _putting_back(terms, named), terms, item)) is not None:
            return best
    missing = wanted - _counted(plain.text, wanted)
    told = tuple(KeptTerm(term.source, term.target, not missing[term.target]) for term in terms)
    return replace(plain, alternatives=plain.alternatives[: item.alternatives], glossary=told)


def _terms(item: TranslateItem) -> list[_Term]:
    """Return the terms that stand in the text, in order."""
    pairs = {literal: literal for literal in literals(item.text, item.protect)}
    pairs |= dict(item.glossary)
    found = Counter(match.group() for match in any_of(pairs).finditer(item.text))
    return [_Term(source, pairs[source], count) for source, count in found.items()]


def _with(named: StandInOf, sources: re.Pattern[str], text: str) -> str:
    return sources.sub(lambda match: named[match.group()][0], text)


def _wanted(terms: Sequence[_Term]) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for term in terms:
        wanted[term.target] += term.count
    return wanted


def _counted(text: str, words: Counter[str]) -> Counter[str]:
    return Counter(match.group() for match in any_of(words).finditer(text))


def _putting_back(terms: Sequence[_Term], named: StandInOf) -> Callable[[str], str | None]:
    """Return what puts terms in the place of their stand-ins; None if these are not as many."""
    targets: dict[str, str] = {}
    for term in terms:
        word = named[term.source][1]
        targets |= {word: term.target, word[:1].upper() + word[1:]: term.target}
    stand_ins, wanted = any_of(targets), _wanted(terms)

    def put_back(text: str) -> str | None:
        places: Counter[str] = Counter()
        for match in stand_ins.finditer(text):
            before, after = text[: match.start()][-1:], text[match.end() :][:1]
            if "-" in (before, after):  # it became part of another word, as in twenty-one
                return None
            places[match.group().lower()] += 1
        if any(places[named[term.source][1].lower()] != term.count for term in terms):
            return None
        whole = stand_ins.sub(lambda match: targets[match.group()], text)
        return whole if not wanted - _counted(whole, wanted) else None

    return put_back


def _best(
    answer: Translation,
    kept: Callable[[str], str | None],
    terms: Sequence[_Term],
    item: TranslateItem,
) -> Translation | None:
    """Return the best hypothesis with every term; None if there is none."""
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
