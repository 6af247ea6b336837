"""The texts of one translate request: split, translated segment by segment, and joined again."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar, Literal, TypeAlias

from service.cache.responses import together
from service.errors import InvalidInputError, LimitExceededError, ServiceError, named, renewed
from service.requests.languages import DetectedTranslation, resolve_source
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.segment_stream import (
    DocumentLimits,
    Piece,
    SegmentDone,
    SegmentStream,
    Translator,
    pieces_of,
)
from service.tasks import FinishReason, KeptTerm, Task, TranslateItem, Translation
from service.telemetry.record import longest
from service.transforms.language.detection import Detection
from service.transforms.language.segmentation import Document, Segment

SplitBy: TypeAlias = Literal["auto", "sentences", "none"]
"""auto: lines, and sentences of lines that are too long. sentences: every sentence."""

_REASONS = tuple(FinishReason)


class Documents:
    """Splits the texts of one request and counts their segments."""

    task: ClassVar = Task.TRANSLATE

    def __init__(self, limits: DocumentLimits, split: SplitBy = "auto") -> None:
        self.limits, self._split = limits, split
        self._asked = 0

    @property
    def in_sentences(self) -> bool:
        """Return whether every sentence is a segment."""
        return self._split == "sentences"

    async def open(
        self, pipeline: Translator, item: TranslateItem, in_sentences: bool | None = None
    ) -> Document | None:
        """Return a text in segments, or None if it is translated as a whole.

        Args:
            pipeline: the model that translates it.
            item: its source language is known.
            in_sentences: replaces the setting of the request.

        Raises:
            InvalidInputError: it contains nothing to translate.
            LimitExceededError: the request has too many segments.
        """
        document = None
        if self._split != "none":
            wanted = self.in_sentences if in_sentences is None else in_sentences
            document = await pipeline.split(item, wanted)
        self.count(1 if document is None else len(document.segments) or 1)
        return document

    async def pieces(
        self, pipeline: Translator, item: TranslateItem, place: int
    ) -> Sequence[tuple[Piece, TranslateItem]]:
        """Return a text's segments, each with the item to translate; raises as `open`."""
        item, _ = await resolve_source(pipeline, item)
        document = await self.open(pipeline, item) or Document.whole(item.text)
        return list(pieces_of(document, item, place))

    def count(self, segments: int) -> None:
        """Count segments. Raises LimitExceededError if the request has too many."""
        self._asked += segments
        if self._asked > self.limits.most_segments:
            raise LimitExceededError(
                f"there are more than {self.limits.most_segments} lines and sentences to translate"
            )

    async def answer(
        self, pipeline: Translator, item: TranslateItem, request: Request
    ) -> Outcome[Translation]:
        """Translate a text of any length.

        Raises:
            InvalidInputError, LimitExceededError: as `open`; or the text has several segments and
                the item asks for alternatives.
            ServiceError: the error of the first segment that failed.
        """
        item, detection = await resolve_source(pipeline, item)
        return with_detection(await self._answered(pipeline, item, request), detection)

    async def _answered(
        self, pipeline: Translator, item: TranslateItem, request: Request
    ) -> Outcome[Translation]:
        with pipeline.held():  # so that a reload does not close it while the text is split
            document = await self.open(pipeline, item)
            if document is None:
                return await pipeline.answer(item, request)
            request.record.segment_count += len(document.segments)
            if item.alternatives:
                raise InvalidInputError(
                    f"alternatives need a text of one segment, and this text has "
                    f"{len(document.segments)}: use stream, or send its lines one by one"
                )
            stream = SegmentStream(pipeline, list(pieces_of(document, item)), request, self.limits)
            async with aclosing(stream.events()) as events:
                outcomes = [
                    outcome_of(event) async for event in events if isinstance(event, SegmentDone)
                ]
        return _joined(document, outcomes)


def with_detection(
    outcome: Outcome[Translation], detection: Detection | None
) -> Outcome[Translation]:
    """Return an outcome that says which language was detected."""
    if detection is None:
        return outcome
    return replace(outcome, answer=DetectedTranslation.of(outcome.answer, detection))


def outcome_of(done: SegmentDone) -> Outcome[Translation]:
    """Return a segment's outcome. Raises its error, with its place in the text."""
    result = done.result
    if isinstance(result, ServiceError):
        raise _located(done.piece.segment, result) from result
    if isinstance(result, Exception):
        raise renewed(result)
    return result


def _located(segment: Segment, fault: ServiceError) -> ServiceError:
    """Return an equal exception that names the characters of the segment."""
    return named(f"characters {segment.start} to {segment.end}", fault)


def _terms_of(answers: Sequence[Translation]) -> Iterator[KeptTerm]:
    """Yield every term once; it is kept if every segment with it kept it."""
    kept: dict[tuple[str, str], bool] = {}
    for answer in answers:
        for term in answer.glossary:
            pair = (term.source, term.target)
            kept[pair] = kept.get(pair, True) and term.is_kept
    return (KeptTerm(*pair, is_kept) for pair, is_kept in kept.items())


def _joined(document: Document, outcomes: Sequence[Outcome[Translation]]) -> Outcome[Translation]:
    return whole_outcome(document.joined([outcome.answer.text for outcome in outcomes]), outcomes)


def whole_outcome(
    text: str, outcomes: Sequence[Outcome[Translation]], terms: Collection[str] | None = None
) -> Outcome[Translation]:
    """Return the outcome of a text whose segments have these outcomes.

    Args:
        text: the translation of all of it.
        outcomes: at least one.
        terms: the sources of the terms to report; None reports all.
    """
    answers = [outcome.answer for outcome in outcomes]
    found = (term for term in _terms_of(answers) if terms is None or term.source in terms)
    whole = replace(
        answers[0],
        text=text,
        truncated=any(answer.truncated for answer in answers),
        finish_reason=max((answer.finish_reason for answer in answers), key=_REASONS.index),
        glossary=tuple(found),
    )
    return Outcome(
        whole,
        together(outcome.cache for outcome in outcomes),
        longest([outcome.timings for outcome in outcomes]),
    )
