"""The texts of one request: split, translated piece by piece, put together again."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, TypeAlias

from service.cache.responses import together
from service.errors import InvalidInputError, LimitExceededError, ServiceError, renewed
from service.requests.pipeline import CallOptions, Outcome
from service.requests.segment_stream import DocumentLimits, Ended, Feed, Translator, pieces_of
from service.tasks import FinishReason, KeptTerm, TranslateItem, Translation
from service.telemetry.timings import longest
from service.transforms.language.segmentation import Document, Segment

SplitBy: TypeAlias = Literal["auto", "sentences", "none"]
"""Lines, and sentences of lines that do not fit; sentences; not at all."""

_REASONS = tuple(FinishReason)


class Documents:
    """The texts of one request."""

    def __init__(self, limits: DocumentLimits, split: SplitBy = "auto") -> None:
        self.limits, self._split = limits, split
        self._asked = 0
        self.segments = 0
        """Of the texts that were split."""

    async def open(self, pipeline: Translator, item: TranslateItem) -> Document | None:
        """Return a text in pieces; None if it is one piece as it is.

        Raises:
            InvalidInputError: there is nothing in it to translate.
            LimitExceededError: the request has too many pieces.
        """
        document = None
        if self._split != "none":
            document = await pipeline.split(item, self._split == "sentences")
        segments = 0 if document is None else len(document.segments)
        self.segments += segments
        self._asked += segments or 1
        if self._asked > self.limits.most_segments:
            raise LimitExceededError(
                f"there are more than {self.limits.most_segments} lines and sentences to translate"
            )
        return document

    async def answer(
        self, pipeline: Translator, item: TranslateItem, options: CallOptions
    ) -> Outcome[Translation]:
        """Translate a text, however long.

        Raises:
            InvalidInputError, LimitExceededError: as `open`; or alternatives are asked for of a
                text that is several pieces.
            ServiceError: what the first of its pieces that failed, failed with.
        """
        with pipeline.held():  # or a reload might close it while the text is split
            document = await self.open(pipeline, item)
            if document is None:
                return await pipeline.answer(item, options)
            if item.alternatives:
                raise InvalidInputError(
                    f"alternatives are of one piece, and this text is {len(document.segments)}: "
                    "stream it, or ask for its lines one by one"
                )
            feed = Feed(pipeline, list(pieces_of(document, item)), options, self.limits)
            async with aclosing(feed.events()) as events:
                outcomes = [_outcome(event) async for event in events if isinstance(event, Ended)]
        return _joined(document, outcomes)


def _outcome(ended: Ended) -> Outcome[Translation]:
    """Return a piece's outcome. Raises what it failed with, which then says where."""
    result = ended.result
    if isinstance(result, ServiceError):
        raise _located(ended.piece.segment, result) from result
    if isinstance(result, Exception):
        raise renewed(result)
    return result


def _located(segment: Segment, fault: ServiceError) -> ServiceError:
    """Return an equal exception that says which piece it is of."""
    found = renewed(fault)
    found.args = (f"characters {segment.start} to {segment.end}: {fault}",)
    return found


def _terms_of(answers: Sequence[Translation]) -> Iterator[KeptTerm]:
    """Yield every term once, kept if it is kept wherever it stands."""
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
