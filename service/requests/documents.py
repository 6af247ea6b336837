"""The texts of one translate request: split, translated segment by segment, and joined again."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, TypeAlias

from service.cache.responses import together
from service.errors import InvalidInputError, LimitExceededError, ServiceError, renewed
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.segment_stream import (
    DocumentLimits,
    SegmentDone,
    SegmentStream,
    Translator,
    pieces_of,
)
from service.tasks import FinishReason, KeptTerm, TranslateItem, Translation
from service.telemetry.record import longest
from service.transforms.language.segmentation import Document, Segment

SplitBy: TypeAlias = Literal["auto", "sentences", "none"]
"""auto: lines, and sentences of lines that are too long. sentences: every sentence."""

_REASONS = tuple(FinishReason)


class Documents:
    """Splits the texts of one request and counts their segments."""

    def __init__(self, limits: DocumentLimits, split: SplitBy = "auto") -> None:
        self.limits, self._split = limits, split
        self._asked = 0

    async def open(self, pipeline: Translator, item: TranslateItem) -> Document | None:
        """Return a text in segments, or None if it is translated as a whole.

        Raises:
            InvalidInputError: it contains nothing to translate.
            LimitExceededError: the request has too many segments.
        """
        document = None
        if self._split != "none":
            document = await pipeline.split(item, self._split == "sentences")
        self._asked += 1 if document is None else len(document.segments) or 1
        if self._asked > self.limits.most_segments:
            raise LimitExceededError(
                f"there are more than {self.limits.most_segments} lines and sentences to translate"
            )
        return document

    async def answer(
        self, pipeline: Translator, item: TranslateItem, request: Request
    ) -> Outcome[Translation]:
        """Translate a text of any length.

        Raises:
            InvalidInputError, LimitExceededError: as `open`; or the text has several segments and
                the item asks for alternatives.
            ServiceError: the error of the first segment that failed.
        """
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
                    _outcome(event) async for event in events if isinstance(event, SegmentDone)
                ]
        return _joined(document, outcomes)


def _outcome(done: SegmentDone) -> Outcome[Translation]:
    """Return a segment's outcome. Raises its error, with its place in the text."""
    result = done.result
    if isinstance(result, ServiceError):
        raise _located(done.piece.segment, result) from result
    if isinstance(result, Exception):
        raise renewed(result)
    return result


def _located(segment: Segment, fault: ServiceError) -> ServiceError:
    """Return an equal exception that names the characters of the segment."""
    found = renewed(fault)
    found.args = (f"characters {segment.start} to {segment.end}: {fault}",)
    return found


def _terms_of(answers: Sequence[Translation]) -> Iterator[KeptTerm]:
    """Yield every term once; it is kept if every segment with it kept it."""
    kept: dict[tuple[str, str], bool] = {}
    for answer in answers:
        for term in answer.glossary:
            pair = (term.source, term.target)
            kept[pair] = kept.get(pair, True) and term.is_kept
    return (KeptTerm(*pair, is_kept) for pair, is_kept in kept.items())


def _joined(document: Document, outcomes: Sequence[Outcome[Translation]]) -> Outcome[Translation]:
    answers = [outcome.answer for outcome in outcomes]
    whole = replace(
        answers[0],
        text=document.joined([answer.text for answer in answers]),
        truncated=any(answer.truncated for answer in answers),
        finish_reason=max((answer.finish_reason for answer in answers), key=_REASONS.index),
        glossary=tuple(_terms_of(answers)),
    )
    return Outcome(
        whole,
        together(outcome.cache for outcome in outcomes),
        longest([outcome.timings for outcome in outcomes]),
    )
