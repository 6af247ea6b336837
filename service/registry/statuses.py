"""The versions that are loading, serve, drain, failed to load or can be loaded on demand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from service.registry.progress import LoadProgress
from service.registry.status import ModelState, VersionKey, VersionStatus, publish, retract


class Statuses:
    """The statuses of the versions that are loading, serve, drain or failed to load."""

    def __init__(self) -> None:
        self._statuses: dict[VersionKey, VersionStatus] = {}
        self._before: dict[VersionKey, VersionStatus | None] = {}
        self._loads: dict[VersionKey, LoadProgress] = {}
        self.is_on_demand: Callable[[str], bool] = lambda _: False
        """Tells whether a model is loaded again at its next request."""

    def __getitem__(self, key: VersionKey) -> VersionStatus:
        status = self._statuses[key]
        if (load := self._loads.get(key)) is None:
            return status
        return replace(status, phase=load.phase, loading_seconds=load.seconds)

    def __iter__(self) -> Iterator[VersionKey]:
        """Return the versions that have a status, by name and number."""
        return iter(sorted(self._statuses))

    def of(self, model: str) -> Sequence[VersionKey]:
        """Return the versions of one model that have a status, by number."""
        return sorted(key for key in self._statuses if key[0] == model)

    def begin(self, key: VersionKey, serves: bool) -> LoadProgress:
        """Note that a load begins; a version that serves stays ready meanwhile."""
        self._before[key] = self._statuses.get(key)
        self._loads[key] = LoadProgress(*key)
        if not serves:
            self.set(VersionStatus(*key, ModelState.LOADING))
        return self._loads[key]

    def end(self, key: VersionKey) -> None:
        """Note that a load has ended, however it did."""
        self._loads.pop(key).end()
        self._before.pop(key, None)

    def fail(self, key: VersionKey, reason: str, serves: bool) -> None:
        """Note why a load failed; a version that serves stays ready."""
        state = ModelState.READY if serves else ModelState.FAILED
        self.set(replace(self._statuses[key], state=state, reason=reason))

    def abandon(self, key: VersionKey, drains: bool) -> None:
        """Note that a load was given up: the version is again what it was before."""
        before = self._before[key]
        if before is None:
            self.forget(key)
        elif before.state is ModelState.DRAINING and not drains:
            self._leave(before)
        else:
            self.set(before)

    def drain(self, key: VersionKey) -> None:
        """Note that a version no longer serves, and has yet to answer what it accepted."""
        self.set(replace(self._statuses[key], state=ModelState.DRAINING))

    def drained(self, key: VersionKey) -> None:
        """Note that a version has been closed, unless it is being loaded or failed to load."""
        status = self._statuses.get(key)
        if status is not None and status.state is ModelState.DRAINING:
            self._leave(status)

    def offer(self, status: VersionStatus) -> None:
        """Note that a version can be loaded on demand, unless something is known of it."""
        if status.version is not None and (status.model, status.version) not in self._statuses:
            self.set(status)

    def withdraw(self, model: str) -> None:
        """Forget the versions of a model that could be loaded on demand."""
        for key in self.of(model):
            if self._statuses[key].state is ModelState.ON_DEMAND:
                self.forget(key)

    def _leave(self, status: VersionStatus) -> None:
        assert status.version is not None  # noqa: S101 - as in `set`
        if self.is_on_demand(status.model):
            self.set(replace(status, state=ModelState.ON_DEMAND, resident=False))
        else:
            self.forget((status.model, status.version))

    def set(self, status: VersionStatus) -> None:
        """Keep the status of a version, and publish it."""
        assert status.version is not None  # noqa: S101 - only folders without versions have none
        key = (status.model, status.version)
        if (old := self._statuses.get(key)) and old.digest != status.digest:
            retract(old)
        self._statuses[key] = status
        publish(status)

    def forget(self, key: VersionKey) -> None:
        """Remove a version and its series."""
        retract(self._statuses.pop(key))
