"""The memory that loaded versions may take: which model is evicted for another, and when."""

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from service.errors import ModelLoadError
from service.registry.loader import Loaded
from service.registry.versions import Versions
from service.repository.repository import VersionFiles
from service.telemetry import metrics

_log = logging.getLogger(__name__)

# A version stays this many times as long as its load took, between these seconds: models that
# displace one another spend at most a third of their time on loads.
_STAYS, _LEAST_STAY, _LONGEST_STAY = 2.0, 0.5, 30.0

# A model that is used all the time is never idle. After waiting this long, a load may evict it
# too: it answers what it has accepted, and its next request waits for its turn.
_PATIENCE_SECONDS = 1.0

# How often a load that waits for memory looks again.
_LOOK_SECONDS = 0.05

# Longest wait for memory. Loads on demand end with the deadlines of their requests.
_LONGEST_WAIT_SECONDS = 120.0

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that could be evicted."""

    model: str
    used: int
    """Higher for a model that was asked later."""
    stays_until: float
    is_idle: bool
    is_held: bool
    """Whether a stream or a request of several steps keeps it."""


def next_to_evict(residents: Sequence[Resident], now: float, waited: float) -> str | None:
    """Return the model to evict for one that waits; None if all have to stay for now."""
    able = [one for one in residents if now >= one.stays_until and not one.is_held]
    if idle := [one for one in able if one.is_idle]:
        return min(idle, key=lambda one: one.used).model
    if able and waited >= _PATIENCE_SECONDS:
        return min(able, key=lambda one: one.stays_until).model
    return None


class MemoryBudget:
    """Keeps the versions that are loaded, drain or are being loaded within a number of bytes."""

    def __init__(self, total: int, pinned: Collection[str], versions: Versions) -> None:
        """Prepare for no loaded version.

        Args:
            total: bytes; 0 sets no limit.
            pinned: models that are never evicted.
            versions: those that serve.
        """
        self.total, self._pinned, self._versions = total, frozenset(pinned), versions
        self.evict: Callable[[str], None] = lambda _: None
        """Takes a model out of service; its versions are released once they are closed."""
        self.is_changing: Callable[[str], bool] = lambda _: False
        """Tells whether a model is being loaded, so that it cannot leave."""
        self.waiting: set[str] = set()
        """The models that wait for memory."""
        self._held: dict[Loaded, int] = {}
        self._stays: dict[Loaded, float] = {}
        self._reserved: list[int] = []
        self._known: dict[str, int] = {}
        """By digest, what a version took when it was loaded last."""
        metrics.MODEL_MEMORY_BUDGET_BYTES.set(total)

    def __repr__(self) -> str:
        return f"<MemoryBudget {self.taken} of {self.total}>"

    @property
    def taken(self) -> int:
        """Return the bytes of all versions that are loaded, drain or are being loaded."""
        return sum(self._held.values()) + sum(self._reserved)

    def expected(self, files: VersionFiles) -> int:
        """Return what a version will take; its files, if it was never loaded."""
        return self._known.get(files.digest, files.size_bytes)

    @asynccontextmanager
    async def room(
        self, files: VersionFiles, memory_of: Callable[[VersionFiles], int | None]
    ) -> AsyncIterator[None]:
        """Wait until a version fits, and keep its room for the block; idle models are evicted.

        Args:
            files: the version.
            memory_of: returns what it took when it was measured; None if it never was.

        Raises:
            ModelLoadError: it cannot fit, or nothing left for too long.
        """
        if not self.total:
            yield
            return
        if files.digest not in self._known:
            measured = await asyncio.to_thread(memory_of, files)
            self._known[files.digest] = max(measured or 0, files.size_bytes)
        needed = self._known[files.digest]
        await self._wait(files, needed)
        self._reserved.append(needed)
        try:
            yield
        finally:
            self._reserved.remove(needed)

    def hold(self, loaded: Loaded) -> None:
        """Count a version until it is closed. Call it within the block of `room`.

        Raises:
            ModelLoadError: now that it is measured, it cannot fit.
        """
        files = loaded.files
        took = loaded.memory_bytes or files.size_bytes
        if self.total:
            took = max(took, self.expected(files))
            self._known[files.digest] = took
            self._refuse_too_large(files, took)
        now = asyncio.get_running_loop().time()
        stay = min(_LONGEST_STAY, max(_LEAST_STAY, _STAYS * loaded.seconds))
        self._held[loaded], self._stays[loaded] = took, now + stay
        loaded.on_closed = partial(self._release, weakref.ref(loaded))
        metrics.MODEL_MEMORY_BYTES.labels(files.model, str(files.version)).set(took)
        if self.total:  # it may have taken more than expected
            self._evict_for(files.model, 0, 0.0)

    def memory_of(self, loaded: Loaded) -> int | None:
        """Return the bytes that a version takes; None if it is not held."""
        return self._held.get(loaded)

    async def _wait(self, files: VersionFiles, needed: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.waiting.add(files.model)
        try:
            while True:
                self._refuse_too_large(files, needed)
                if self.taken + needed <= self.total:
                    return
                waited = loop.time() - began
                if waited > _LONGEST_WAIT_SECONDS:
                    raise self._no_room(files, needed, "and no model could be evicted")
                self._evict_for(files.model, needed, waited)
                metrics.MODEL_LOADS_WAITING.set(len(self.waiting))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self.waiting.discard(files.model)
            metrics.MODEL_LOADS_WAITING.set(len(self.waiting))

    def _evict_for(self, loading: str, needed: int, waited: float) -> None:
        """Evict models until what drains and is free is enough, as far as possible."""
        now = asyncio.get_running_loop().time()
        while self._left() + needed > self.total:
            evicted = next_to_evict(self._residents(loading), now, waited)
            if evicted is None:
                return
            _log.info("model evicted", extra={"model": evicted, "for": loading})
            metrics.MODEL_EVICTIONS.labels(evicted).inc()
            self.evict(evicted)

    def _left(self) -> int:
        """Return the bytes that are taken once what drains now is closed."""
        serving = set(self._versions)
        draining = sum(size for loaded, size in self._held.items() if loaded not in serving)
        return self.taken - draining

    def _residents(self, loading: str) -> Sequence[Resident]:
        return [
            self._resident(model, list(self._versions.of(model).values()))
            for model in self._versions.defaults
            if model not in self._pinned and model != loading and not self.is_changing(model)
        ]

    def _resident(self, model: str, versions: Sequence[Loaded]) -> Resident:
        return Resident(
            model,
            max(one.used for one in versions),
            max(self._stays.get(one, 0.0) for one in versions),
            not any(one.pipeline.active for one in versions),
            any(one.pipeline.holders for one in versions),
        )

    def _refuse_too_large(self, files: VersionFiles, needed: int) -> None:
        pinned = sum(size for one, size in self._held.items() if one.files.model in self._pinned)
        if needed > self.total - pinned:
            why = f"of which pinned models take {_mib(pinned)}" if pinned else ""
            raise self._no_room(files, needed, why)

    def _no_room(self, files: VersionFiles, needed: int, why: str) -> ModelLoadError:
        return ModelLoadError(
            f"{files.model}/{files.version} takes {_mib(needed)} of memory; models.memory_bytes is "
            f"{_mib(self.total)}{', ' if why else ''}{why}"
        )

    def _release(self, closed: "weakref.ref[Loaded]") -> None:
        # Weakly: a version that refers to itself would keep its memory until the collector runs.
        if (loaded := closed()) is None:
            return
        self._held.pop(loaded, None)
        self._stays.pop(loaded, None)
        if not any(one.key == loaded.key for one in self._held):
            labels = {"model": loaded.files.model, "version": str(loaded.files.version)}
            metrics.MODEL_MEMORY_BYTES.remove_by_labels(labels)


def _mib(size: int) -> str:
    return f"{size / _MEBIBYTE:.1f} MiB"
