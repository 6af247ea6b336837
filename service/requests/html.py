"""The texts of HTML documents, translated: markup stays, and moves with its words."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from typing_extensions import override

from service.cache.responses import CacheOutcome
from service.errors import InvalidInputError
from service.requests.documents import (
    Documents,
    outcome_of,
    whole_outcome,
    with_detection,
)
from service.requests.languages import AUTO, resolve_source
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.segment_stream import Piece, SegmentDone, SegmentStream, Translator
from service.tasks import TranslateItem, Translation
from service.telemetry.record import Timings
from service.transforms.language.html import Page, Run, parse_html
from service.transforms.language.html_alignment import without_stop
from service.transforms.language.html_segments import Node, Sentence, sentences_of
from service.transforms.language.languages import plain_code
from service.transforms.language.segmentation import UNSPACED, Document, Segment

_LONG: Final = 20_000
"""Characters of HTML that are parsed on a thread."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A text to translate, and the sentence it is of."""

    sentence: Sentence
    text: str
    node: Node | None = None
    """The element that it is in; None for the whole sentence, or a piece of it."""


class HtmlDocuments(Documents):
    """Splits the HTML documents of one request and counts their segments."""

    @staticmethod
    async def read(source: str) -> Page:
        """Return an HTML document; a long one is parsed on a thread."""
        if len(source) > _LONG:
            return await asyncio.to_thread(parse_html, source)
        return parse_html(source)

    @override
    async def answer(
        self, pipeline: Translator, item: TranslateItem, request: Request
    ) -> Outcome[Translation]:
        """Translate an HTML document of any length, or a part of one.

        Tags, attributes, comments and what is not text are copied as they are.

        Raises:
            InvalidInputError: the item asks for alternatives.
            LimitExceededError: the request has too many segments.
            ServiceError: the error of the first segment that failed.
        """
        if item.alternatives:
            raise InvalidInputError("alternatives are not available for HTML")
        page = await self.read(item.text)
        if not page.runs:
            return _unchanged(pipeline, item)
        with pipeline.held():
            resolved, detection = await resolve_source(pipeline, item, page.text)
            work = _Translation(pipeline, resolved, request, self)
            return with_detection(await work.translated(page), detection)

    async def spans(
        self, pipeline: Translator, item: TranslateItem, run: Run
    ) -> tuple[Sequence[tuple[int, int]], Sequence[bool]]:
        """Return where the segments of a run are, and before which of them a space is missing.

        Raises:
            LimitExceededError: the request has too many segments.
        """
        # Sentence by sentence, markup moves only within its sentence.
        document = await self.open(
            pipeline, replace(item, text=run.text), bool(run.marks) or self.in_sentences
        )
        if document is None:
            document = _stripped(run.text)
        spans = [(segment.start, segment.end) for segment in document.segments]
        before = [0, *(end for _, end in spans)]
        missing = [
            bool(index) and segment.start == at and bool(segment.before)
            for index, (segment, at) in enumerate(zip(document.segments, before, strict=False))
        ]
        return spans, missing


class _Translation:
    """One document that is being translated."""

    def __init__(
        self,
        pipeline: Translator,
        item: TranslateItem,
        request: Request,
        documents: HtmlDocuments,
    ) -> None:
        self._pipeline, self._item, self._request = pipeline, item, request
        self._documents = documents
        self._outcomes: list[Outcome[Translation]] = []

    async def translated(self, page: Page) -> Outcome[Translation]:
        """Return the document with all its texts translated."""
        sentences: list[tuple[Sentence, bool]] = []
        for run in page.runs:
            spans, missing = await self._documents.spans(self._pipeline, self._item, run)
            sentences += zip(sentences_of(page, run, spans), missing, strict=True)
        rendered = await self._rendered([sentence for sentence, _ in sentences])
        written, at = [], 0
        for (sentence, is_space_missing), text in zip(sentences, rendered, strict=True):
            written.append(page.source[at : sentence.source_start])
            if is_space_missing:
                written.append(" ")
            written.append(text)
            at = sentence.source_end
        written.append(page.source[at:])
        asked = {source for source, _ in self._item.glossary}
        return whole_outcome("".join(written), self._outcomes, asked)

    async def _rendered(self, sentences: Sequence[Sentence]) -> Sequence[str]:
        """Return what replaces each sentence."""
        asked: list[_Asked] = []
        for sentence in sentences:
            if not sentence.is_cut:
                asked.append(_Asked(sentence, sentence.text))
            asked += [_Asked(sentence, text, node) for node, text in sentence.parts().items()]
        texts = await self._texts(asked)
        wholes: dict[int, str] = {}
        parts: dict[int, dict[Node, str]] = {}
        for one, text in zip(asked, texts, strict=True):
            if one.node is None:
                wholes[id(one.sentence)] = text
            else:
                parts.setdefault(id(one.sentence), {})[one.node] = text
        rendered = [
            sentence.rendered(wholes.get(id(sentence), ""), parts.get(id(sentence), {}))
            for sentence in sentences
        ]
        in_pieces = await self._in_pieces(
            [one for one, text in zip(sentences, rendered, strict=True) if text is None]
        )
        return [
            in_pieces[id(sentence)] if text is None else text
            for sentence, text in zip(sentences, rendered, strict=True)
        ]

    async def _in_pieces(self, sentences: Sequence[Sentence]) -> Mapping[int, str]:
        """Return sentences whose markup cannot be placed: every piece translated by itself."""
        asked = [
            _Asked(sentence, text.strip())
            for sentence in sentences
            for text, is_text in sentence.pieces()
            if is_text
        ]
        texts = iter(await self._texts(asked))
        is_spaced = plain_code(self._outcomes[0].answer.target) not in UNSPACED if asked else False
        return {
            id(sentence): "".join(
                _spaced(sentence, text, next(texts), is_spaced and place) if is_text else text
                for place, (text, is_text) in enumerate(sentence.pieces())
            )
            for sentence in sentences
        }

    async def _texts(self, asked: Sequence[_Asked]) -> list[str]:
        """Translate texts, some at a time. Raises ServiceError."""
        self._documents.count(len(asked))
        self._request.record.segment_count += len(asked)
        pieces = [
            (Piece(0, index, _segment(one), ""), self._item_of(one))
            for index, one in enumerate(asked)
        ]
        limits = self._documents.limits
        stream = SegmentStream(self._pipeline, pieces, self._request, limits)
        async with aclosing(stream.events()) as events:
            found = [outcome_of(event) async for event in events if isinstance(event, SegmentDone)]
        self._outcomes += found
        return [outcome.answer.text for outcome in found]

    def _item_of(self, asked: _Asked) -> TranslateItem:
        kept = {text: text for text in asked.sentence.kept if text in asked.text}
        glossary = {**kept, **dict(self._item.glossary)}
        return replace(self._item, text=asked.text, glossary=tuple(glossary.items()))


def _unchanged(pipeline: Translator, item: TranslateItem) -> Outcome[Translation]:
    """Return a document without words as it is."""
    sources, targets = pipeline.family.traits.languages or ((), ())
    source = item.source if item.source not in (None, AUTO) else "".join(sources[:1])
    target = item.target or "".join(targets[:1])
    translation = Translation(item.text, source or "", target, truncated=False)
    return Outcome(translation, CacheOutcome.BYPASS, Timings())


def _segment(asked: _Asked) -> Segment:
    """Return a text with its place in the source, for the message of an error."""
    sentence = asked.sentence
    return Segment(asked.text, sentence.source_start, sentence.source_end, "")


def _stripped(text: str) -> Document:
    inner = text.strip()
    start = text.index(inner)
    return Document((Segment(inner, start, start + len(inner), ""),), "")


def _spaced(sentence: Sentence, piece: str, translation: str, is_spaced: bool | int) -> str:
    """Return the translation of a piece as HTML, with the white space that parts it from others."""
    translation = without_stop(piece, translation)
    is_spaced = is_spaced and any(character.isalnum() for character in translation)
    before = " " if piece[0].isspace() or (is_spaced and piece[0].isalnum()) else ""
    after = " " if piece[-1].isspace() else ""
    return before + sentence.page.escaped(translation) + after
