"""Answers by key: looked up, shared while they are computed, stored. Backends see only bytes."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Any

from service.cache.codec import CODECS, SCHEMA, Codec
from service.cache.memory import CacheBackend
from service.cache.singleflight import SingleFlight
from service.tasks import Task, fingerprint
from service.telemetry.metrics import RESPONSE_CACHE_LOOKUPS, SINGLE_FLIGHT_SHARED
from service.types import AnswerT, Item, ModelIdentity

_log = logging.getLogger(__name__)
_UNDECODABLE = RESPONSE_CACHE_LOOKUPS.labels("codec", "rejected")


class CacheMode(StrEnum):
    """What a caller lets the cache do."""

    USE = "use"
    """Everything."""
    REFRESH = "refresh"
    """Compute anew, and store the answer (`Cache-Control: no-cache`)."""
    BYPASS = "bypass"
    """Compute anew, and store nothing (`Cache-Control: no-store`)."""


class CacheOutcome(StrEnum):
    """Where an answer came from."""

    HIT = "hit"
    """A store."""
    MISS = "miss"
    """Computed for this caller."""
    SHARED = "shared"
    """Computed for an identical request that was already running."""
    BYPASS = "bypass"
    """Computed for this caller, without asking the cache."""


def together(outcomes: Iterable[CacheOutcome]) -> CacheOutcome:
    """Return the outcome of all that have this one; else miss if any was computed, else shared."""
    kinds = set(outcomes)
    if len(kinds) == 1:
        return kinds.pop()
    return CacheOutcome.MISS if CacheOutcome.MISS in kinds else CacheOutcome.SHARED


class ResponseCache:
    """The cache as a pipeline sees it.

    Identical requests share one execution even while storing is switched off: then nothing is
    remembered, but nothing is computed twice at the same time either.
    """

    def __init__(
        self, backend: CacheBackend, *, enabled: bool = True, single_flight: bool = True
    ) -> None:
        """Put a cache in front of a backend, which stays its opener's to close.

        Args:
            backend: where answers are stored.
            enabled: whether answers are looked up and stored.
            single_flight: whether identical requests in flight share one execution.
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

        A lookup may take as long as the backend allows itself (Redis: its budget, 20 ms by
        default); storing never waits.

        Args:
            key: from `cache_key`.
            task: says how the answer is stored.
            compute: makes the answer, keeping the caller's deadline itself. Called at most
                once, in the caller's own task.
            mode: what the caller lets the cache do.
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


def cache_key(task: Task, model: ModelIdentity, item: Item) -> str:
    """Return the key of one item for one model: 128 bits over typed, length-prefixed parts."""
    hashed = _of_model(task, model).copy()
    hashed.update(item.fingerprint())
    return hashed.hexdigest()


@lru_cache(256)
def _of_model(task: Task, model: ModelIdentity) -> "hashlib.blake2b":
    """Return what all keys of a model begin with. Copy it; it is kept."""
    parts = fingerprint(SCHEMA, task.value, model.name, model.version, model.digest)
    return hashlib.blake2b(parts, digest_size=16)
