"""Pieces of long texts: asked for ahead of their turn, told of in their order.

A document never has more pieces in work than keep the device busy (the pipeline's window), and
each of them waits in the queue as a request that came just now. So a thousand lines neither fill
the queue nor pass anybody; if others fill it, they wait for room. A few windows of pieces are
asked for ahead of the one whose turn it is; who reads slowly is not computed for any further.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from service.errors import DeadlineExceededError, OverloadedError
from service.requests.pipeline import CallOptions, Outcome, Pipeline
from service.tasks import TranslateItem, Translation
from service.transforms.language.segmentation import Document, Segment
from service.types import Tensors

Translator: TypeAlias = Pipeline[TranslateItem, Translation]
Result: TypeAlias = Outcome[Translation] | Exception

_AHEAD = 4
"""Windows of pieces that are asked for, or answered and not taken yet."""

_LONGEST_WAIT = 0.1
"""Seconds until the next look whether a queue that others have filled has room."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment of one of the texts of a request."""

    item: int
    """Which of the texts, from 0."""
    index: int
    """Which of its segments, from 0."""
    segment: Segment
    after: str
    """What stands behind its translation; empty but for the last segment of a text."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A piece is translated, or failed."""

    piece: Piece
    result: Result


@dataclass(frozen=True, slots=True)
class Growing:
    """The piece whose turn it is has got longer."""

    piece: Piece
    text: str
    """All of it so far. With beams, the best beginning: the next one may begin otherwise."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing has happened for a while."""


Event: TypeAlias = Ended | Growing | Unchanged


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How much may be asked for, and how long to wait."""

    most_segments: int
    """Of all texts of a request."""
    patience: float
    """Seconds in which each piece must be answered."""
    heartbeat: float = 5.0
    """Seconds after which `Unchanged` is told."""


@dataclass(eq=False, slots=True)
class _Asked:
    piece: Piece
    item: TranslateItem
    partial: Tensors | None = None
    """What there is of it, if that has not been told yet."""


class Feed:
    """Asks a pipeline for pieces in their order, and tells in this order what became of them."""

    def __init__(
        self,
        pipeline: Translator,
        pieces: Sequence[tuple[Piece, TranslateItem]],
        options: CallOptions,
        limits: DocumentLimits,
        tells_growth: bool = False,
    ) -> None:
        """Make a feed.

        Args:
            pipeline: who translates.
            pieces: what is asked.
            options: for all of them; the deadline is that of the last one.
            limits: how long to wait.
            tells_growth: whether unfinished translations are told of.
        """
        self._pipeline, self._options, self._limits = pipeline, options, limits
        self._tells_growth = tells_growth
        self._to_ask = iter(pieces)
        self._asked: deque[tuple[_Asked, asyncio.Task[Result]]] = deque()
        """With who answers, who refers to what it answers."""
        self._window = pipeline.window
        self._gate = asyncio.Semaphore(self._window)
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Feed {len(self._asked)} asked, window {self._window}>"

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what happens. Whoever stops listening must close it: that cancels all work.

        Raises:
            DeadlineExceededError: the deadline of the options passed.
        """
        try:
            self._ask_ahead()
            while self._asked:
                self._news.clear()
                head, answer = self._asked[0]
                if answer.done():
                    self._asked.popleft()
                    self._ask_ahead()
                    yield Ended(head.piece, answer.result())
                elif head.partial is not None:
                    partial, head.partial = head.partial, None
                    yield Growing(head.piece, self._text(head.item, partial))
                elif not await self._is_news():
                    yield Unchanged()
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

        options = replace(self._options, watch=watch if self._tells_growth else None)
        async with self._gate:
            while True:
                try:
                    self._pipeline.check_room()
                    soon = replace(options, deadline=loop.time() + self._limits.patience)
                    return await self._pipeline.answer(asked.item, soon)
                except OverloadedError as error:
                    await asyncio.sleep(min(error.retry_after or _LONGEST_WAIT, _LONGEST_WAIT))
                except Exception as error:
                    return error

    async def _is_news(self) -> bool:
        """Wait for something to tell; False after a while without. Raises DeadlineExceededError."""
        now, deadline = asyncio.get_running_loop().time(), self._options.deadline
        until = now + self._limits.heartbeat
        if deadline is not None and deadline < until:
            until = deadline
        try:
            async with asyncio.timeout_at(until):
                await self._news.wait()
        except TimeoutError:
            if until == deadline:
                raise DeadlineExceededError("the deadline passed before the end") from None
            return False
        return True

    def _text(self, item: TranslateItem, partial: Tensors) -> str:
        return self._pipeline.family.processor.postprocess(
            partial, replace(item, alternatives=0)
        ).text


def pieces_of(
    document: Document, item: TranslateItem, place: int = 0
) -> Iterator[tuple[Piece, TranslateItem]]:
    """Return the pieces of a text, each with what to ask for it."""
    last = len(document.segments) - 1
    for index, segment in enumerate(document.segments):
        after = document.after if index == last else ""
        yield Piece(place, index, segment, after), replace(item, text=segment.text)
