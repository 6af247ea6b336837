"""A translate request whose segments are yielded while they are translated, as plain events."""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

from service.cache.responses import CacheOutcome, together
from service.errors import (
    InvalidInputError,
    ServiceError,
    ShuttingDownError,
    kept,
    renewed,
)
from service.requests.answer import Models, as_service_error, find_pipelines, found
from service.requests.pipeline import Outcome
from service.requests.request import Request, Selection
from service.requests.segment_stream import (
    DocumentLimits,
    Heartbeat,
    Piece,
    SegmentDone,
    SegmentGrowth,
    SegmentStream,
    pieces_of,
)
from service.requests.segment_stream import Event as SegmentEvent
from service.tasks import GenerateItem, Generation, Task, TranslateItem, Translation
from service.telemetry.record import Timings, longest
from service.transforms.language.segmentation import Document
from service.types import ModelIdentity

Detail: TypeAlias = Literal["segments", "tokens"]
"""tokens: the partial translation of the first unfinished segment is yielded too."""
Asked: TypeAlias = Sequence[tuple[Piece, Any]]
Refused: TypeAlias = Sequence[tuple[int, ServiceError]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Segments done, translated or failed, of the segments of all texts. Yielded as a heartbeat."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The first event."""

    model: ModelIdentity
    items: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment was translated, or failed."""

    piece: Piece
    result: Outcome[Translation] | Outcome[Generation] | ServiceError
    progress: Progress


@dataclass(frozen=True, slots=True)
class StreamError:
    """A text that was refused, or the error that ended the stream early."""

    error: ServiceError
    progress: Progress
    item: int | None = None
    """Index of the text; None for the error of the stream."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last event."""

    progress: Progress
    failed: int
    truncated: int
    cache: dict[CacheOutcome, int]
    """Segments by where their translation came from."""
    seconds: float
    """Since the arrival of the request."""
    timings: Timings
    """The longest time of each step over all segments."""


Event: TypeAlias = StreamStart | SegmentResult | SegmentGrowth | Progress | StreamError | StreamEnd


@dataclass(eq=False, slots=True)
class TranslationStream:
    """A request that is being translated. Leave it as a context manager to release its model."""

    request: Request
    model: ModelIdentity
    total: int
    refused: Refused
    segments: SegmentStream
    holding: ExitStack
    """Keeps the version of the model open."""
    done: int = 0
    failed: int = 0
    truncated: int = 0
    cache: dict[CacheOutcome, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.holding.close()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event, from `StreamStart` to `StreamEnd`. Close it to cancel the work."""
        yield StreamStart(self.model, self.request.record.item_count, self._progress)
        for place, error in self.refused:
            yield self._error(error, place)
        try:
            async with aclosing(self.segments.events()) as events:
                async for event in events:
                    yield self._reported(event)
        except Exception as error:
            for event_of_end in self.end(error):
                yield event_of_end
        else:
            yield self._end()

    def end(self, error: Exception) -> Iterator[Event]:
        """Yield the last events of a stream that an error ends early."""
        yield self._error(as_service_error(error, self.request.id))
        yield self._end()

    @property
    def _progress(self) -> Progress:
        return Progress(self.done, self.total)

    def _reported(self, event: SegmentEvent) -> Event:
        match event:
            case SegmentDone():
                return self._segment(event)
            case SegmentGrowth():
                return event
            case Heartbeat():
                return self._progress

    def _segment(self, done: SegmentDone) -> SegmentResult:
        """Count a segment. Raises ShuttingDownError, because later segments would fail too."""
        result = done.result
        if isinstance(result, ShuttingDownError):
            raise renewed(result)
        record = self.request.record
        self.done += 1
        record.segment_count += 1
        if record.first_seconds is None:
            record.first_seconds = time.perf_counter() - record.started
        if isinstance(result, Exception):
            failure = as_service_error(result, self.request.id)
            self._count_failure(failure)
            return SegmentResult(done.piece, failure, self._progress)
        self.truncated += result.answer.truncated
        self.cache[result.cache] = self.cache.get(result.cache, 0) + 1
        record.cache = together(self.cache)
        record.timings = longest((record.timings or Timings(), result.timings))
        return SegmentResult(done.piece, result, self._progress)

    def _error(self, error: ServiceError, place: int | None = None) -> StreamError:
        self._count_failure(error)
        return StreamError(error, self._progress, place)

    def _count_failure(self, error: ServiceError) -> None:
        self.failed += 1
        if self.request.record.code == "ok":
            self.request.record.code = error.code

    def _end(self) -> StreamEnd:
        record = self.request.record
        return StreamEnd(
            self._progress,
            self.failed,
            self.truncated,
            self.cache,
            time.perf_counter() - record.started,
            record.timings or Timings(),
        )


class Splitter(Protocol):
    """Splits the texts of a request. `Documents` is one."""

    task: ClassVar[Task]

    @property
    def limits(self) -> DocumentLimits:
        """Return the limits of the request's segments."""
        ...

    async def pieces(self, pipeline: Any, item: Any, place: int) -> Asked:
        """Return a text in segments, each with the item to ask. Raises ServiceError."""
        ...


@dataclass(frozen=True, slots=True)
class WholeTexts:
    """Leaves texts as they are."""

    task: ClassVar = Task.GENERATE
    limits: DocumentLimits

    async def pieces(self, pipeline: Any, item: GenerateItem, place: int) -> Asked:
        """Return a text as its only segment."""
        return list(pieces_of(Document.whole(item.text), item, place))


async def open_translation_stream(
    models: Models,
    request: Request,
    selection: Selection,
    items: Sequence[TranslateItem | GenerateItem | ServiceError],
    documents: Splitter,
    detail: Detail = "segments",
) -> TranslationStream:
    """Split the texts of a request, and return the stream of their translations.

    Args:
        models: the models that can be asked.
        request: its deadline is that of the whole stream.
        selection: the model to ask.
        items: in order; an item that could not be parsed is given as its error.
        documents: splits the texts, and says what the task of the items is.
        detail: what to yield.

    Raises:
        ServiceError: no model can answer, the queue is full, or there is only one text and it
            cannot be translated.
    """
    request.record.item_count = len(items)
    key = request.sticky or request.id
    find = partial(find_pipelines, models, documents.task, selection, items, key)
    pipelines = await found(find, request)
    if not pipelines:
        raise renewed(next(item for item in items if isinstance(item, ServiceError)))
    (pipeline,) = pipelines.values()
    request.record.model = pipeline.model
    if request.caller is not None:
        await request.caller.spend(documents.task, (pipeline.model.name,), items)
    with_growth = detail == "tokens"
    if with_growth and not pipeline.is_in_flight:
        raise InvalidInputError(
            f"model {pipeline.model.name!r} cannot stream tokens, because it runs whole "
            "batches; stream without them"
        )
    pipeline.check_room()
    with ExitStack() as stack:
        stack.enter_context(pipeline.held())
        asked, refused = await _opened(pipeline, documents, items)
        segments = SegmentStream(pipeline, asked, request, documents.limits, with_growth)
        return TranslationStream(
            request, pipeline.model, len(asked), refused, segments, stack.pop_all()
        )


async def _opened(
    pipeline: Any,
    documents: Splitter,
    items: Sequence[TranslateItem | GenerateItem | ServiceError],
) -> tuple[Asked, Refused]:
    """Split the texts. Raises ServiceError if there is only one, and it cannot be translated."""
    asked: list[tuple[Piece, Any]] = []
    refused: list[tuple[int, ServiceError]] = []
    for place, item in enumerate(items):
        try:
            if isinstance(item, ServiceError):
                raise renewed(item)
            asked += await documents.pieces(pipeline, item, place)
        except ServiceError as error:
            if len(items) == 1:
                raise
            refused.append((place, kept(error)))
    return asked, refused
