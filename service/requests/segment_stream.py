"""Translate the segments of long texts ahead of their turn, and yield the results in order.

A request never has more segments in the queue than keep the device busy (the pipeline's window),
and each of them joins the queue like a request that has just arrived. So a thousand lines neither
fill the queue nor overtake other requests; while the queue is full, they wait for room. A few
windows of segments are translated ahead; for a slow reader no more than these are computed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from service.errors import DeadlineExceededError, OverloadedError
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.tasks import GenerateItem, TranslateItem, Translation
from service.transforms.language.segmentation import Document, Segment
from service.types import Tensors

Translator: TypeAlias = Pipeline[TranslateItem, Translation]
AskedT = TypeVar("AskedT", TranslateItem, GenerateItem)
Result: TypeAlias = Outcome[Translation] | Exception

_AHEAD = 4
"""Windows of segments that are translated before their turn, or wait for the reader."""

_LONGEST_WAIT = 0.1
"""Seconds between two attempts to enter a queue that is full."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment of one of the texts of a request."""

    item: int
    """Index of the text."""
    index: int
    """Index of the segment in its text."""
    segment: Segment
    after: str
    """Text after its translation; empty except for the last segment of a text."""


@dataclass(frozen=True, slots=True)
class SegmentDone:
    """A segment was translated, or failed."""

    piece: Piece
    result: Result


@dataclass(frozen=True, slots=True)
class SegmentGrowth:
    """The translation of the first unfinished segment has got longer."""

    piece: Piece
    text: str
    """All of it so far. With beams, of the best hypothesis, which a later one may replace."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for `DocumentLimits.heartbeat` seconds."""


Event: TypeAlias = SegmentDone | SegmentGrowth | Heartbeat


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Limits of the segments of one request."""

    most_segments: int
    """Over all texts of a request."""
    patience: float
    """Seconds in which each segment must be answered."""
    heartbeat: float = 5.0
    """Seconds without an event after which `Heartbeat` is yielded."""


@dataclass(eq=False, slots=True)
class _Asked:
    piece: Piece
    item: TranslateItem
    partial: Tensors | None = None
    """Partial result that has not been yielded yet."""


class SegmentStream:
    """Submits segments to a pipeline in order, and yields their results in this order."""

    def __init__(
        self,
        pipeline: Translator,
        pieces: Sequence[tuple[Piece, TranslateItem]],
        request: Request,
        limits: DocumentLimits,
        with_growth: bool = False,
    ) -> None:
        """Make a stream; nothing is submitted yet.

        Args:
            pipeline: translates.
            pieces: the segments, each with the item to translate.
            request: the request they belong to; its deadline is that of the last segment.
            limits: how long to wait.
            with_growth: whether to yield partial translations.
        """
        self._pipeline, self._request, self._limits = pipeline, request, limits
        self._with_growth = with_growth
        self._to_ask = iter(pieces)
        self._asked: deque[tuple[_Asked, asyncio.Task[Result]]] = deque()
        self._window = pipeline.window
        self._gate = asyncio.Semaphore(self._window)
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SegmentStream {len(self._asked)} asked, window {self._window}>"

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield events. Close the generator to cancel all work.

        Raises:
            DeadlineExceededError: the deadline of the request passed.
        """
        try:
            self._ask_ahead()
            while self._asked:
                self._news.clear()
                head, answer = self._asked[0]
                if answer.done():
                    self._asked.popleft()
                    self._ask_ahead()
                    yield SegmentDone(head.piece, answer.result())
                elif head.partial is not None:
                    partial, head.partial = head.partial, None
                    yield SegmentGrowth(head.piece, self._text(head.item, partial))
                elif not await self._is_news():
                    yield Heartbeat()
        finally:
            answers = [answer for _, answer in self._asked]
            self._asked.clear()
            for answer in answers:
                answer.cancel()
            await asyncio.gather(*answers, return_exceptions=True)

    def _ask_ahead(self) -> None:
        while len(self._asked) < _AHEAD * self._window:
            if (found := next(self._to_ask, None)) is None:
                return
            asked = _Asked(*found)
            answer = asyncio.create_task(self._answer(asked))
            answer.add_done_callback(lambda _: self._news.set())
            self._asked.append((asked, answer))

    async def _answer(self, asked: _Asked) -> Result:
        loop = asyncio.get_running_loop()

        def watch(partial: Tensors) -> None:
            asked.partial = partial
            if self._asked and asked is self._asked[0][0]:
                self._news.set()

        async with self._gate:
            while True:
                try:
                    self._pipeline.check_room()
                    soon = replace(self._request, deadline=loop.time() + self._limits.patience)
                    return await self._pipeline.answer(
                        asked.item, soon, watch if self._with_growth else None
                    )
                except OverloadedError as error:
                    await asyncio.sleep(min(error.retry_after or _LONGEST_WAIT, _LONGEST_WAIT))
                except Exception as error:
                    return error

    async def _is_news(self) -> bool:
        """Wait for an event; return False if none came. Raises DeadlineExceededError."""
        now, deadline = asyncio.get_running_loop().time(), self._request.deadline
        until = now + self._limits.heartbeat
        if deadline is not None and deadline < until:
            until = deadline
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            if until == deadline:
                raise DeadlineExceededError("the deadline passed before the last segment") from None
            return False
        return True

    def _text(self, item: TranslateItem, partial: Tensors) -> str:
        return self._pipeline.family.processor.postprocess(
            partial, replace(item, alternatives=0)
        ).text


def pieces_of(document: Document, item: AskedT, place: int = 0) -> Iterator[tuple[Piece, AskedT]]:
    """Return the segments of a text, each with the item to translate."""
    last = len(document.segments) - 1
    for index, segment in enumerate(document.segments):
        after = document.after if index == last else ""
        yield Piece(place, index, segment, after), replace(item, text=segment.text)
