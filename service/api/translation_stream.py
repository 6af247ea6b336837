"""POST /v1/translate, told as it comes: each piece in its order, or its growth too."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from service.api.answering import find_pipelines
from service.api.content import TaskRequest
from service.api.errors import Problem, log_unexpected
from service.api.http_request import HttpRequest
from service.api.streaming import EventBody, StreamForm, StreamReply, note_first
from service.cache.responses import CacheOutcome, together
from service.errors import InvalidInputError, ServiceError, ShuttingDownError, kept, renewed
from service.requests.documents import Documents
from service.requests.pipeline import Outcome
from service.requests.segment_stream import (
    Ended,
    Event,
    Feed,
    Growing,
    Piece,
    Translator,
    pieces_of,
)
from service.tasks import Task, TranslateItem, Translation
from service.telemetry.timings import Timings, longest
from service.transforms.language.segmentation import Document
from service.types import ModelIdentity

StreamOf: TypeAlias = Literal["segments", "tokens"]
Encode: TypeAlias = Callable[[Translation], Mapping[str, Any]]
Asked: TypeAlias = Sequence[tuple[Piece, TranslateItem]]
Refused: TypeAlias = Sequence[tuple[int, ServiceError]]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a translation is told."""

    of: StreamOf
    form: StreamForm
    encode: Encode


async def stream_translation(
    call: HttpRequest,
    request: TaskRequest,
    items: Sequence[TranslateItem | ServiceError],
    documents: Documents,
    telling: StreamOptions,
) -> StreamReply:
    """Begin to translate, and return the response that tells of it.

    Raises:
        ServiceError: no model can take the request, none of its texts can be translated, or the
            queue is full now.
        ClientDisconnect: the client left.
    """
    call.item_count = len(items)
    call.become_stream()
    options = call.options()
    pipelines = find_pipelines(call, Task.TRANSLATE, request, items)
    if not pipelines:
        raise renewed(next(item for item in items if isinstance(item, ServiceError)))
    (pipeline,) = pipelines.values()
    call.model = pipeline.model
    if telling.of == "tokens" and not pipeline.is_in_flight:
        raise InvalidInputError(
            f"{pipeline.model.name} translates in batches, so it can stream segments, not tokens"
        )
    pipeline.check_room()
    with ExitStack() as stack:
        stack.enter_context(pipeline.held())  # until the stream ends, whatever is loaded meanwhile
        asked, refused = await call.while_wanted(_opened(pipeline, documents, items))
        feed = Feed(pipeline, asked, options, documents.limits, telling.of == "tokens")
        story = _Story(call, pipeline.model, len(asked), telling.encode)
        return StreamReply(call, story.events(feed, refused), telling.form, stack.pop_all())


async def _opened(
    pipeline: Translator, documents: Documents, items: Sequence[TranslateItem | ServiceError]
) -> tuple[Asked, Refused]:
    """Split the texts. Raises ServiceError if there is but one, and it cannot be."""
    asked: list[tuple[Piece, TranslateItem]] = []
    refused: list[tuple[int, ServiceError]] = []
    for place, item in enumerate(items):
        try:
            if isinstance(item, ServiceError):
                raise renewed(item)
            document = await documents.open(pipeline, item) or Document.whole(item.text)
            asked += pieces_of(document, item, place)
        except ServiceError as error:
            if len(items) == 1:
                raise
            refused.append((place, kept(error)))
    return asked, refused


@dataclass(slots=True)
class _Story:
    """What has been told so far."""

    call: HttpRequest
    model: ModelIdentity
    total: int
    encode: Encode
    done: int = 0
    failed: int = 0
    truncated: int = 0
    outcomes: dict[CacheOutcome, int] = field(default_factory=dict)

    async def events(self, feed: Feed, refused: Refused) -> AsyncGenerator[EventBody, None]:
        """Yield every event, first `start`, last `end`."""
        yield {
            "event": "start",
            "model": self.model.name,
            "version": self.model.version,
            "items": self.call.item_count,
            **self._progress,
        }
        for place, error in refused:
            self.failed += 1
            yield {"event": "error", "item": place, **self._problem(error), **self._progress}
        try:
            async with aclosing(feed.events()) as events:
                async for event in events:
                    yield self._told(event)
        except asyncio.CancelledError:
            if not self.call.is_given_up:
                raise
            # Who reads is still there, and what is left to tell does not wait for anything.
            yield self._broken_off(ShuttingDownError("the service stopped before the end"))
        except Exception as error:
            yield self._broken_off(error)
        yield self._end()

    def _broken_off(self, error: Exception) -> EventBody:
        self.failed += 1
        return {"event": "error", **self._problem(error), **self._progress}

    @property
    def _progress(self) -> Mapping[str, int]:
        return {"done": self.done, "total": self.total}

    def _told(self, event: Event) -> EventBody:
        match event:
            case Growing(piece, text):
                return {"event": "tokens", "item": piece.item, "index": piece.index, "text": text}
            case Ended(piece, result):
                return self._ended(piece, result)
            case _:
                return {"event": "progress", **self._progress}

    def _ended(self, piece: Piece, result: Outcome[Translation] | Exception) -> EventBody:
        """Tell of a piece. Raises ShuttingDownError, after which no other would fare better."""
        if isinstance(result, ShuttingDownError):
            raise renewed(result)
        note_first(self.call)
        self.done += 1
        self.call.segment_count += 1
        if isinstance(result, Exception):
            self.failed += 1
            said: Mapping[str, Any] = self._problem(result)
        else:
            self._count(result)
            said = {**self.encode(result.answer), "cache": result.cache}
        segment = piece.segment
        return {
            "event": "error" if isinstance(result, Exception) else "segment",
            "item": piece.item,
            "index": piece.index,
            "start": segment.start,
            "end": segment.end,
            "before": segment.before,
            "after": piece.after,
            **said,
            **self._progress,
        }

    def _count(self, outcome: Outcome[Translation]) -> None:
        self.truncated += outcome.answer.truncated
        self.outcomes[outcome.cache] = self.outcomes.get(outcome.cache, 0) + 1
        self.call.cache = together(self.outcomes)
        self.call.timings = longest((self.call.timings or Timings(), outcome.timings))

    def _problem(self, error: Exception) -> Mapping[str, Any]:
        log_unexpected(error, self.call.request_id)
        problem = Problem.of(error)
        if self.call.code == "ok":
            self.call.code = problem.code
        return problem.members(self.call.request_id)

    def _end(self) -> EventBody:
        spent = self.call.timings or Timings()
        return {
            "event": "end",
            **self._progress,
            "failed": self.failed,
            "truncated": self.truncated,
            "cache": {str(kind): count for kind, count in self.outcomes.items()},
            "seconds": time.perf_counter() - self.call.started,
            "longest": dict(_steps(spent)),
        }


def _steps(spent: Timings) -> Iterator[tuple[str, float]]:
    """Yield the seconds of each step, of the piece that took longest in it."""
    for step in Timings.__slots__:
        yield f"{step}_seconds", getattr(spent, step)
