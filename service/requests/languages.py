"""`source: "auto"`: the language of a text is detected before it is translated."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from service.errors import InvalidInputError
from service.requests.segment_stream import Translator
from service.tasks import TranslateItem, Translation
from service.transforms.language.detection import (
    Detection,
    detect_language,
    detect_languages,
    load_detector,
)
from service.transforms.language.languages import meant_by, plain_code

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class DetectedTranslation(Translation):
    """A translation from a language that was detected."""

    detection: Detection | None = None

    @classmethod
    def of(cls, answer: Translation, detection: Detection) -> "DetectedTranslation":
        """Return a translation with the detection of its source."""
        members = {one.name: getattr(answer, one.name) for one in fields(Translation)}
        return cls(**members, detection=detection)


async def detected(text: str, among: Sequence[str] = ()) -> Detection | None:
    """Return the language of a text, or None; see `detect_language`."""
    await asyncio.to_thread(load_detector)
    return detect_language(text, among)


async def detections(text: str) -> Sequence[Detection]:
    """Return the languages that a text may be in; see `detect_languages`."""
    await asyncio.to_thread(load_detector)
    return detect_languages(text)


async def resolve_source(
    pipeline: Translator, item: TranslateItem, text: str | None = None
) -> tuple[TranslateItem, Detection | None]:
    """Return an item with its source language; what was detected, if it is "auto".

    Args:
        pipeline: the model that translates it.
        item: what to translate.
        text: what to detect the language of, if it is not the item's text.

    Raises:
        InvalidInputError: the model does not translate from the language of the text.
    """
    if item.source != AUTO:
        return item, None
    languages = pipeline.family.traits.languages or ((), ())
    sources, targets = languages
    among = [plain_code(code) for code in (*sources, *targets)]
    found = await detected(item.text if text is None else text, among)
    if found is None:
        if len(sources) == 1:  # nothing in the text is of any language
            return replace(item, source=None), None
        raise InvalidInputError("the language of the text cannot be detected: name the source")
    codes = meant_by(found.language, tuple(sources)) if sources else [found.language]
    if not codes:
        raise InvalidInputError(
            f"the text is in {found.language!r} (confidence {found.confidence:.2f}), and model "
            f"{pipeline.model.name!r} translates from {', '.join(sources[:10])}"
        )
    return replace(item, source=codes[0]), found
