"""Answers by key: looked up, shared while they are computed, and stored. Backends see only bytes.

Identical requests share one computation. The first caller for a key *leads*: it computes in its
own task. Callers that arrive meanwhile *follow*: each waits for the leader's answer, until its own
deadline. A leader that stops for a reason of its own (it was cancelled, its deadline passed, its
version of the model was closed) hands over to a follower, which then computes itself. Any other
failure, including overload, would affect the followers too, and is raised in them at once.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, TypeAlias, TypeVar

from service.cache.codec import CODECS, SCHEMA, Codec
from service.cache.memory import CacheBackend
from service.errors import DeadlineExceededError, ModelNotReadyError, ShuttingDownError, renewed
from service.tasks import Task, fingerprint
from service.telemetry.metrics import RESPONSE_CACHE_LOOKUPS, SINGLE_FLIGHT_SHARED
from service.types import AnswerT, Item, ModelIdentity

_log = logging.getLogger(__name__)
_UNDECODABLE = RESPONSE_CACHE_LOOKUPS.labels("codec", "rejected")


class CacheMode(StrEnum):
    """What the cache may do for a request."""

    USE = "use"
    """Look up and store."""
    REFRESH = "refresh"
    """Compute, and store the answer (`Cache-Control: no-cache`)."""
    BYPASS = "bypass"
    """Compute, and store nothing (`Cache-Control: no-store`)."""


class CacheOutcome(StrEnum):
    """Where an answer came from."""

    HIT = "hit"
    """The cache."""
    MISS = "miss"
    """Computed for this caller."""
    SHARED = "shared"
    """Computed for an identical request that was already running."""
    BYPASS = "bypass"
    """Computed for this caller; the cache was not used."""


def together(outcomes: Iterable[CacheOutcome]) -> CacheOutcome:
    """Return the common outcome if all are equal; else miss if any is a miss, else shared."""
    kinds = set(outcomes)
    if len(kinds) == 1:
        return kinds.pop()
    return CacheOutcome.MISS if CacheOutcome.MISS in kinds else CacheOutcome.SHARED


class ResponseCache:
    """Looks up, shares and stores the answers of all models.

    Identical requests that arrive together share one computation even if the cache is disabled.
    """

    def __init__(
        self, backend: CacheBackend, *, enabled: bool = True, single_flight: bool = True
    ) -> None:
        """Make a cache in front of a backend. The caller closes the backend.

        Args:
            backend: stores the answers.
            enabled: whether answers are looked up and stored.
            single_flight: whether identical requests share one computation.
        """
        self._backend, self._enabled, self._single_flight = backend, enabled, single_flight
        self._flights = SingleFlight[tuple[Any, CacheOutcome]]()

    async def get_or_compute(
        self,
        key: str,
        task: Task,
        compute: Callable[[], Awaitable[AnswerT]],
        *,
        mode: CacheMode,
        deadline: float | None,
    ) -> tuple[AnswerT, CacheOutcome]:
        """Return the answer for a key, and where it came from.

        A lookup takes at most the backend's time limit (Redis: 20 ms by default); storing does not
        wait.

        Args:
            key: from `cache_key`.
            task: selects the codec.
            compute: computes the answer and keeps the caller's deadline. Called at most once, in
                the caller's task.
            mode: what the cache may do.
            deadline: absolute loop time until which to wait for an identical request.

        Raises:
            DeadlineExceededError: the deadline passed.
            ServiceError: what `compute` raised, for this caller or for the identical request
                that it waited for.
        """
        if mode is CacheMode.BYPASS:
            return await compute(), CacheOutcome.BYPASS
        codec = CODECS[task]
        if mode is CacheMode.REFRESH:
            return await self._compute(key, codec, compute)
        if not self._single_flight:
            return await self._look_up_or_compute(key, codec, compute)
        (answer, outcome), from_another = await self._flights.run(
            key, lambda: self._look_up_or_compute(key, codec, compute), deadline
        )
        if from_another and outcome is not CacheOutcome.HIT:
            SINGLE_FLIGHT_SHARED.inc()
            outcome = CacheOutcome.SHARED
        return answer, outcome

    def __repr__(self) -> str:
        state = "" if self._enabled else "disabled, "
        return f"<ResponseCache {state}{self._backend!r}, {self._flights!r}>"

    async def _look_up_or_compute(
        self, key: str, codec: Codec, compute: Callable[[], Awaitable[AnswerT]]
    ) -> tuple[AnswerT, CacheOutcome]:
        if self._enabled and (stored := await self._backend.get(key)) is not None:
            try:
                return codec.decode(stored), CacheOutcome.HIT
            except (TypeError, ValueError):
                _UNDECODABLE.inc()
        return await self._compute(key, codec, compute)

    async def _compute(
        self, key: str, codec: Codec, compute: Callable[[], Awaitable[AnswerT]]
    ) -> tuple[AnswerT, CacheOutcome]:
        answer = await compute()
        if not self._enabled:
            return answer, CacheOutcome.BYPASS
        try:
            await self._backend.set(key, codec.encode(answer))
        except (TypeError, ValueError) as error:
            _log.warning("answer not stored: %s", error)
        return answer, CacheOutcome.MISS


_LONG = 512 * 1024
"""Bytes of a fingerprint that are hashed on a thread: half a millisecond for the event loop."""


async def key_of(task: Task, model: ModelIdentity, item: Item) -> str:
    """Return `cache_key` without holding up the event loop."""
    content = item.fingerprint()
    if len(content) < _LONG:
        return _key(task, model, content)
    return await asyncio.to_thread(_key, task, model, content)


def cache_key(task: Task, model: ModelIdentity, item: Item) -> str:
    """Return the key of one item for one model: 128 bits over typed, length-prefixed parts."""
    return _key(task, model, item.fingerprint())


def _key(task: Task, model: ModelIdentity, content: bytes) -> str:
    hashed = _of_model(task, model).copy()
    hashed.update(content)
    return hashed.hexdigest()


@lru_cache(256)
def _of_model(task: Task, model: ModelIdentity) -> "hashlib.blake2b":
    """Return the hash state that all keys of a model begin with. Copy it before an update."""
    parts = fingerprint(SCHEMA, task.value, model.name, model.version, model.digest)
    return hashlib.blake2b(parts, digest_size=16)


ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Computed(Generic[ValueT]):
    value: ValueT


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


_Landing: TypeAlias = _Computed[ValueT] | _Failed | None
"""The result for a follower; None makes it the leader."""

_Flight: TypeAlias = deque[asyncio.Future[_Landing[ValueT]]]
"""The followers of one key, in order of arrival."""


class SingleFlight(Generic[ValueT]):
    """Shares one computation between identical requests; a single request needs no future."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[ValueT]] = {}

    async def run(
        self, key: str, compute: Callable[[], Awaitable[ValueT]], deadline: float | None
    ) -> tuple[ValueT, bool]:
        """Return the value, and whether another caller computed it.

        Args:
            key: equal for identical computations.
            compute: computes the value and keeps this caller's deadline; called at most once, and
                only if this caller leads.
            deadline: absolute loop time until which a follower waits.

        Raises:
            DeadlineExceededError: this caller's deadline passed.
            Exception: what `compute` raised; each follower gets an instance of its own.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = deque()
        else:
            landing = await self._follow(key, flight, deadline)
            if landing is not None:
                return _taken(landing), True
        return await self._lead(key, flight, compute), False

    def __repr__(self) -> str:
        waiting = sum(map(len, self._flights.values()))
        return f"<SingleFlight {len(self._flights)} running, {waiting} waiting>"

    async def _lead(
        self, key: str, flight: _Flight[ValueT], compute: Callable[[], Awaitable[ValueT]]
    ) -> ValueT:
        try:
            value = await compute()
        except (DeadlineExceededError, ModelNotReadyError, ShuttingDownError):
            self._hand_over(key, flight)
            raise
        except Exception as error:
            self._land(key, flight, _Failed(error))
            raise
        except BaseException:  # cancelled; its followers still wait
            self._hand_over(key, flight)
            raise
        self._land(key, flight, _Computed(value))
        return value

    async def _follow(
        self, key: str, flight: _Flight[ValueT], deadline: float | None
    ) -> _Landing[ValueT]:
        future: asyncio.Future[_Landing[ValueT]] = asyncio.get_running_loop().create_future()
        flight.append(future)
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except BaseException as error:
            self._leave(key, flight, future)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    "the deadline passed while an identical request was computed"
                ) from None
            raise

    def _leave(
        self, key: str, flight: _Flight[ValueT], future: asyncio.Future[_Landing[ValueT]]
    ) -> None:
        if future.cancelled():
            with suppress(ValueError):  # handing over may have removed it
                flight.remove(future)
        elif future.done() and future.result() is None:  # became the leader as it was cancelled
            self._hand_over(key, flight)

    def _land(self, key: str, flight: _Flight[ValueT], landing: _Landing[ValueT]) -> None:
        del self._flights[key]
        while flight:  # emptied: an error in the landing refers to the leader, which refers to it
            future = flight.popleft()
            if not future.done():
                future.set_result(landing)

    def _hand_over(self, key: str, flight: _Flight[ValueT]) -> None:
        while flight:
            future = flight.popleft()
            if not future.done():
                future.set_result(None)
                return
        del self._flights[key]


def _taken(landing: _Computed[ValueT] | _Failed) -> ValueT:
    if isinstance(landing, _Failed):
        raise renewed(landing.error) from landing.error
    return landing.value
