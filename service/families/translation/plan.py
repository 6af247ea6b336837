"""How a translator is asked for a text: as it is, in part, with terms to keep, or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from service.families.translation.glossary import Placeholders, Plan
from service.families.translation.glossary import plan as glossary_plan
from service.families.translation.languages import Pair
from service.tasks import Alternative, FinishReason, KeptTerm, TranslateItem, Translation
from service.transforms.language.languages import plain_code
from service.transforms.language.literals import Reduced, emoji_of, has_words, literals, reduced
from service.transforms.language.segmentation import UNSPACED


def plan(
    item: TranslateItem, num_beams: int, stand_ins: Placeholders, languages: Callable[[], Pair]
) -> Plan | None:
    """Return how to ask for an item; None if it is asked as it is.

    A text without words is its own translation, and the model is not asked. Emoji and invisible
    marks are hidden from the model, unless the glossary says what an emoji becomes.

    Args:
        item: what to translate.
        num_beams: of its search.
        stand_ins: for terms of a glossary.
        languages: returns the item's languages. Raises InvalidInputError.
    """
    has_own = any(source in item.text for source, _ in item.glossary)
    if not has_own and not has_words(item.text):
        return _unchanged(item, languages)
    less = None if any(emoji_of(source) for source, _ in item.glossary) else reduced(item.text)
    if less is not None:
        return _without_emoji(item, less, languages, num_beams, stand_ins)
    if item.glossary or item.protect:
        return glossary_plan(item, num_beams, stand_ins)
    return None


def _unchanged(item: TranslateItem, languages: Callable[[], Pair]) -> Plan:
    """Answer without asking the model."""
    yield from ()  # a plan that asks for nothing
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
    stand_ins: Placeholders,
) -> Plan:
    """Ask for the rest of the text, and put the emoji back."""
    pair = languages()
    is_spaced = plain_code(pair.target) not in UNSPACED
    gap = " " if is_spaced and plain_code(pair.source) in UNSPACED else ""
    rest = replace(item, text=less.text, protect=tuple(k for k in item.protect if k != "emoji"))
    if rest.glossary or rest.protect:
        answer = yield from glossary_plan(rest, num_beams, stand_ins)
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


def _kept(words: Sequence[str] | dict[str, None]) -> tuple[KeptTerm, ...]:
    return tuple(KeptTerm(word, word, True) for word in words)
