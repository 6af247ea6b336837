"""The path of one item from a request to its model and back. Start reading here."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from service.cache.responses import CacheMode, CacheOutcome, ResponseCache, key_of
from service.engine.engine import Engine
from service.engine.preprocess import PreprocessQueue
from service.errors import (
    DeviceMemoryError,
    ModelNotReadyError,
    ServiceError,
    ShuttingDownError,
)
from service.families.family import Opened
from service.requests.request import Request
from service.tasks import Ability, Task
from service.telemetry.meters import Load, Meter
from service.telemetry.record import Timings
from service.transforms.language.segmentation import Document
from service.types import AnswerT, ItemT, ModelIdentity, PreparedItem, Processor, Tensors

ResultT = TypeVar("ResultT")

Watch: TypeAlias = Callable[[Tensors], None]
"""Called with the partial result after each decoding step, if the engine batches in flight.

Not called for an answer from the cache, or for one computed for an identical request."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[AnswerT]):
    """An answer, where it came from, and how long each step took."""

    answer: AnswerT
    cache: CacheOutcome
    timings: Timings


@dataclass(eq=False, slots=True, weakref_slot=True)
class Pipeline(Generic[ItemT, AnswerT]):
    """One loaded version, ready to answer."""

    task: Task
    modalities: frozenset[str]
    """"text", "image" or both."""
    model: ModelIdentity
    family: Opened[ItemT, AnswerT]
    engines: Mapping[str, Engine]
    """By lane."""
    cache: ResponseCache
    incoming: Mapping[str, PreprocessQueue]
    """Preprocesses long texts and images on threads, by lane; the lane's engine counts them."""
    meter: Meter
    composed: frozenset[Ability] = frozenset()
    """What requests can be composed of its answers."""
    abilities: frozenset[Ability] = field(init=False)
    """Its task with each of its modalities, and what can be composed."""
    idle: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while nothing uses this version; a drain waits for it."""
    active: int = field(default=0, init=False)
    """Number of calls of `answer` that have not returned, and of callers that hold it."""
    holders: int = field(default=0, init=False)
    """Number of callers that hold it."""

    is_withdrawn: bool = field(default=False, init=False)
    """Whether the version was replaced or unloaded, and its drain has ended."""

    _processor: Processor[ItemT, AnswerT] = field(init=False)
    _plan: Callable[[ItemT], Generator[ItemT, AnswerT, AnswerT] | None] | None = field(init=False)
    _choose_lane: Callable[[ItemT], str] | None = field(init=False)

    def __post_init__(self) -> None:
        self.idle.set()
        self.abilities = self.composed | {(self.task, modality) for modality in self.modalities}
        # Looked up once: these are on the path of every item.
        self._processor, traits = self.family.processor, self.family.traits
        self._plan, self._choose_lane = traits.plan, traits.lane_of

    @property
    def window(self) -> int:
        """Return how many items one caller may submit at once: enough to keep the device busy."""
        return min(engine.window for engine in self.engines.values())

    @property
    def is_in_flight(self) -> bool:
        """Return whether `watch` receives partial results."""
        return all(engine.streams_partial_results for engine in self.engines.values())

    def load(self) -> Load:
        """Return how many items wait, how many batches run, and how much work waits."""
        states = [engine.statistics() for engine in self.engines.values()]
        return Load(
            sum(state.pending for state in states),
            sum(state.running for state in states),
            sum(state.backlog_seconds for state in states),
        )

    def rows_in_use(self) -> int | None:
        """Return how many rows are in use; None without in-flight batching."""
        rows = [engine.statistics().rows_in_use for engine in self.engines.values()]
        known = [count for count in rows if count is not None]
        return sum(known) if known else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep this version from being closed between the items of one caller."""
        self.active += 1
        self.holders += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.holders -= 1
            self._let_go()

    def withdraw(self) -> None:
        """Refuse requests from now on with `model_not_ready`, not with `shutting_down`."""
        self.is_withdrawn = True

    def check_room(self) -> None:
        """Raise what `answer` would raise now.

        Raises:
            OverloadedError: the queue is full.
            ModelNotReadyError: the version was replaced or unloaded.
            ShuttingDownError: the process is stopping.
        """
        if self.is_withdrawn:
            raise self._withdrawn()
        if self._choose_lane is None:  # else the queue depends on the item
            next(iter(self.engines.values())).check_room()

    async def split(self, item: ItemT, in_sentences: bool) -> Document | None:
        """Return the item's text in pieces; None if it is one, or is of a task that has none.

        Raises:
            InvalidInputError: nothing in it can be answered.
        """
        split = self.family.traits.split
        if split is None:
            return None
        if not self._processor.offload(item):
            return split(item, in_sentences)
        incoming = self.incoming[self._lane_of(item)]
        return await incoming.run(partial(split, item, in_sentences))

    async def run_on_thread(self, function: Callable[[], ResultT], request: Request) -> ResultT:
        """Call a function on the threads that preprocess items, and wait like an item.

        Raises:
            DeadlineExceededError: the result did not come in time.
            ShuttingDownError: the process stops.
            Exception: the function raised it.
        """
        incoming = next(iter(self.incoming.values()))
        share = None if request.caller is None else request.caller.share
        return await incoming.run(function, request.deadline, request.priority, share)

    async def answer(
        self, item: ItemT, request: Request, watch: Watch | None = None
    ) -> Outcome[AnswerT]:
        """Answer one item: cache, preprocess, engine, postprocess, cache.

        Raises:
            InvalidInputError: the item cannot be preprocessed.
            OverloadedError: the model's queue is full.
            DeadlineExceededError: the answer did not, or could not, come in time.
            ModelNotReadyError: the model was replaced or unloaded, and the drain has ended.
            ShuttingDownError: the process stops.
            InferenceError: the model failed on this item.
        """
        timings = Timings()
        started = time.perf_counter()
        outcome = "cancelled"
        self.active += 1
        self.idle.clear()
        try:
            if request.cache is CacheMode.BYPASS:  # saves hashing the key
                answer = await self._settle(item, request, watch, timings)
                how = CacheOutcome.BYPASS
            else:
                answer, how = await self.cache.get_or_compute(
                    await key_of(self.task, self.model, item),
                    self.task,
                    lambda: self._settle(item, request, watch, timings),
                    mode=request.cache,
                    deadline=request.deadline,
                )
            outcome = "ok"
        except ServiceError as error:
            outcome = error.code
            raise
        except MemoryError:
            outcome = DeviceMemoryError.code
            raise
        except Exception:
            outcome = "internal_error"
            raise
        finally:
            self._let_go()
            total = time.perf_counter() - started
            self.meter.request(outcome, total)
        timings.cache = self.meter.tally.answered(how, timings, total)
        return Outcome(answer, how, timings)

    def _settle(
        self, item: ItemT, request: Request, watch: Watch | None, timings: Timings
    ) -> Coroutine[Any, Any, AnswerT]:
        """Run the model once, or as often as the family's plan for the item requires."""
        plan = None if self._plan is None else self._plan(item)
        if plan is None:
            return self._compute(item, request, watch, timings)
        return self._follow(plan, request, timings)

    async def _follow(
        self, plan: Generator[ItemT, AnswerT, AnswerT], request: Request, timings: Timings
    ) -> AnswerT:
        answer: AnswerT | None = None  # which begins the plan; it may need no answer at all
        while True:
            try:
                asked = next(plan) if answer is None else plan.send(answer)
            except StopIteration as settled:
                found: AnswerT = settled.value
                return found
            # Not watched: the plan may discard this answer.
            answer = await self._compute(asked, request, None, timings)

    async def _compute(
        self, item: ItemT, request: Request, watch: Watch | None, timings: Timings
    ) -> AnswerT:
        if self.is_withdrawn:
            raise self._withdrawn()
        share = None if request.caller is None else request.caller.share
        self.engines[self._lane_of(item)].check_room(share)
        started = time.perf_counter()
        work = await self._preprocess(item, request)
        timings.preprocess += time.perf_counter() - started
        try:
            engine = self.engines[work.lane]
            done = await engine.submit(work, request.deadline, request.priority, watch, share)
        except ShuttingDownError:
            if self.is_withdrawn:
                raise self._withdrawn() from None
            raise
        timings.queue += done.queue_seconds
        timings.compute += done.compute_seconds
        started = time.perf_counter()
        answer = self._processor.postprocess(done.result, item)
        timings.postprocess += time.perf_counter() - started
        return answer

    def _withdrawn(self) -> ServiceError:
        name = f"{self.model.name} version {self.model.version}"
        return ModelNotReadyError(f"{name} was replaced or unloaded before it could answer this")

    def _let_go(self) -> None:
        self.active -= 1
        if not self.active:
            self.idle.set()

    def _lane_of(self, item: ItemT) -> str:
        if self._choose_lane is not None:
            return self._choose_lane(item)
        return next(iter(self.engines))

    async def _preprocess(self, item: ItemT, request: Request) -> PreparedItem:
        if not self._processor.offload(item):
            return self._processor.preprocess(item)
        incoming = self.incoming[self._lane_of(item)]
        preprocess = partial(self._processor.preprocess, item)
        share = None if request.caller is None else request.caller.share
        return await incoming.run(preprocess, request.deadline, request.priority, share)
