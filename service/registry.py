"""The models this process serves. Knows nothing of HTTP."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from service import metrics
from service.errors import (
    ConflictError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ServiceError,
)
from service.loader import Loaded
from service.pipeline import Pipeline
from service.repository.repository import VersionFiles
from service.status import (
    ModelState,
    VersionStatus,
    describe,
    publish,
    publish_limits,
    retract,
    with_statistics,
)
from service.tasks import Task

_log = logging.getLogger(__name__)

_LINGER = 0.05
"""Seconds for a request that has found a version, but not called it yet, to call it."""


class Repository(Protocol):
    """What the registry needs of `service.repository.repository`."""

    def models(self) -> Sequence[str]:
        """Return the models' names."""
        ...

    def open(
        self, model: str, version: int | None, precision: str | None, device_kind: str
    ) -> VersionFiles:
        """Return a version's files. Raises ModelNotFoundError, ModelLoadError."""
        ...


class VersionLoader(Protocol):
    """What the registry needs of `service.loader`."""

    async def load(self, files: VersionFiles) -> Loaded:
        """Return a version that answers. Raises ModelLoadError."""
        ...


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What the operator wants served."""

    device_kind: str
    models: Sequence[str] | None = None
    """Names to load at start; None means all of the repository."""
    versions: Mapping[str, int] | None = None
    precision: str | None = None
    defaults: Mapping[str, str] | None = None
    """"task.modality", e.g. "classify.text", to a model's name."""
    drain_seconds: float = 30.0
    max_queue_size: int | None = None
    """Over the manifests', as the queues have it; here it is only told to the metrics."""


class Registry:
    """Models by name; at most one version of each answers, others may be loading or draining."""

    def __init__(
        self, repository: Repository, loader: VersionLoader, options: RegistryOptions
    ) -> None:
        self._repository, self._loader, self._options = repository, loader, options
        self._serving: dict[str, Loaded] = {}
        self._statuses: dict[tuple[str, int], VersionStatus] = {}
        self._defaults: dict[tuple[Task, str], str] = {}
        self._waiting_for: dict[str, str] = {}
        self._loading: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Registry {len(self._serving)} serving, {len(self._loading)} loading>"

    def start(self) -> None:
        """Begin to load every wanted model, one after the other; returns at once.

        Raises:
            ModelNotFoundError: a model named in the options is not in the repository.
        """
        present = self._repository.models()
        wanted = present if self._options.models is None else self._options.models
        for model in (*wanted, *(self._options.defaults or {}).values()):
            if model not in present:
                raise ModelNotFoundError(f"the repository has no model {model!r}")
        self._waiting_for = dict.fromkeys(wanted, "not loaded yet")
        for model in wanted:
            metrics.MODEL_READY.labels(model).set(0)
        self._spawn(self._load_all(list(wanted)))

    async def stop(self, grace: float) -> None:
        """Give accepted items `grace` seconds, then stop every model."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(loaded.close(grace) for loaded in self._serving.values()))
        self._serving.clear()

    def find(
        self, task: Task, modality: str, model: str | None, version: int | None
    ) -> Pipeline[Any, Any]:
        """Return the pipeline for a request.

        Raises:
            ModelNotFoundError: nothing of this name, version, task and modality.
            ModelNotReadyError: it exists, but is not loaded (yet, or any more).
        """
        name = self._default(task, modality) if model is None else model
        loaded = self._serving.get(name)
        if loaded is None:
            raise self._absent(name)
        if version is not None and version != loaded.files.version:
            raise ModelNotFoundError(
                f"model {name!r} serves version {loaded.files.version}, not {version}"
            )
        pipeline = loaded.pipeline
        if pipeline.task is not task or modality not in pipeline.family.modalities:
            takes = " and ".join(sorted(pipeline.family.modalities))
            raise ModelNotFoundError(
                f"model {name!r} does not {task} {modality}s; it can {pipeline.task} {takes}s"
            )
        return pipeline

    def statuses(self) -> Sequence[VersionStatus]:
        """Return every known version, by name and version."""
        return [self._detailed(self._statuses[key]) for key in sorted(self._statuses)]

    def status(self, model: str) -> Sequence[VersionStatus]:
        """Return the known versions of one model.

        Raises:
            ModelNotFoundError: no such model in the repository.
            ModelNotReadyError: it is in the repository, but was not loaded.
        """
        found = [status for status in self.statuses() if status.model == model]
        if not found:
            raise self._absent(model)
        return found

    def not_ready(self) -> Mapping[str, str]:
        """Return the wanted models that cannot answer, and why; empty when ready."""
        return dict(self._waiting_for)

    async def load(
        self, model: str, version: int | None = None, precision: str | None = None
    ) -> VersionStatus:
        """Load a version (the newest by default) and swap it in; the old one drains.

        Raises:
            ModelNotFoundError: not in the repository.
            ModelLoadError: it could not be loaded or failed its checks; the old one serves on.
            ConflictError: a load of this model is already running.
        """
        if model in self._loading:
            raise ConflictError(f"a load of {model!r} is already running")
        self._loading.add(model)
        try:
            loaded = await self._open(await self._files(model, version, precision))
        except ModelNotFoundError:
            raise
        except ServiceError as error:
            if model in self._waiting_for:
                self._waiting_for[model] = str(error)
            metrics.MODEL_LOADS.labels(model, "failed").inc()
            _log.error("model load failed", extra={"model": model, "reason": str(error)})
            raise
        finally:
            self._loading.discard(model)
        metrics.MODEL_LOADS.labels(model, "ok").inc()
        return self._swap_in(loaded)

    async def unload(self, model: str) -> None:
        """Stop answering with a model, finish what it accepted and close it.

        Raises:
            ModelNotFoundError: no such model in the repository.
            ModelNotReadyError: it is not loaded.
        """
        if model not in self._serving:
            raise self._absent(model)
        loaded = self._serving.pop(model)
        self._waiting_for.pop(model, None)
        metrics.MODEL_READY.remove(model)
        self._choose_defaults()
        await self._drain(loaded)

    async def _files(self, model: str, version: int | None, precision: str | None) -> VersionFiles:
        """Read what is on disk; in a thread, for digests read whole files."""
        options = self._options
        wanted = version if version is not None else (options.versions or {}).get(model)
        precision = precision or options.precision
        try:
            return await asyncio.to_thread(
                self._repository.open, model, wanted, precision, options.device_kind
            )
        except ModelLoadError as error:
            if wanted is not None and not self._is_serving((model, wanted)):
                self._set(VersionStatus(model, wanted, ModelState.FAILED, reason=str(error)))
            raise

    async def _open(self, files: VersionFiles) -> Loaded:
        """Load a version, keeping its status; one that already serves stays ready meanwhile."""
        key = (files.model, files.version)
        serves = self._is_serving(key)
        if not serves:
            self._set(VersionStatus(*key, ModelState.LOADING, files.manifest.task))
        try:
            return await self._loader.load(files)
        except Exception as error:
            state = ModelState.READY if serves else ModelState.FAILED
            self._set(replace(self._statuses[key], state=state, reason=str(error)))
            if isinstance(error, ServiceError):
                raise
            _log.exception("model load crashed", extra={"model": files.model})
            raise ModelLoadError(f"{files.model}/{files.version}: a bug: {error}") from error
        except asyncio.CancelledError:
            if not serves:
                self._forget(key)
            raise

    def _swap_in(self, loaded: Loaded) -> VersionStatus:
        """From here on, requests find the new version; the old one drains in the background."""
        files = loaded.files
        old = self._serving.get(files.model)
        self._serving[files.model] = loaded
        self._waiting_for.pop(files.model, None)
        metrics.MODEL_READY.labels(files.model).set(1)
        if old is not None:
            self._spawn(self._drain(old))
        self._set(describe(loaded))
        self._choose_defaults()
        publish_limits(loaded, self._options.max_queue_size)
        _log.info(
            "model ready",
            extra={"model": files.model, "version": files.version, "precision": files.precision},
        )
        return self._detailed(self._statuses[files.model, files.version])

    async def _drain(self, loaded: Loaded) -> None:
        """Wait until nobody uses a version, at most `drain_seconds`, and close it."""
        key = (loaded.files.model, loaded.files.version)
        if not self._is_serving(key):  # a reload of the same version keeps its status
            self._set(replace(self._statuses[key], state=ModelState.DRAINING))
        await asyncio.sleep(_LINGER)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.drain_seconds):
                await loaded.pipeline.idle.wait()
        await loaded.close(grace=0)
        if not self._is_serving(key):
            self._forget(key)

    async def _load_all(self, models: Sequence[str]) -> None:
        for model in models:
            try:
                await self.load(model)
            except ServiceError as error:  # the others are still wanted; readiness tells
                self._waiting_for[model] = str(error)

    def _choose_defaults(self) -> None:
        """For each task and modality the model set by the operator, else the first by name."""
        chosen: dict[tuple[Task, str], str] = {}
        for name in sorted(self._serving):
            pipeline = self._serving[name].pipeline
            for modality in pipeline.family.modalities:
                chosen.setdefault((pipeline.task, modality), name)
        for key, name in (self._options.defaults or {}).items():
            task, _, modality = key.partition(".")
            chosen[Task(task), modality] = name
        self._defaults = chosen

    def _default(self, task: Task, modality: str) -> str:
        name = self._defaults.get((task, modality))
        if name is not None:
            return name
        if self._waiting_for:
            raise ModelNotReadyError(f"no model is ready yet to {task} {modality}s")
        raise ModelNotFoundError(f"no loaded model can {task} {modality}s")

    def _absent(self, model: str) -> ServiceError:
        """Return why a model cannot answer."""
        if model in self._loading or model in self._waiting_for:
            reason = self._waiting_for.get(model, "loading")
            return ModelNotReadyError(f"model {model!r} is not ready: {reason}")
        if model in self._repository.models():
            return ModelNotReadyError(f"model {model!r} is not loaded")
        return ModelNotFoundError(f"there is no model {model!r}")

    def _detailed(self, status: VersionStatus) -> VersionStatus:
        if not self._is_serving((status.model, status.version)):
            return status
        mine = [m for (task, m), n in self._defaults.items() if n == status.model]
        loaded = self._serving[status.model]
        return with_statistics(replace(status, default_for=tuple(sorted(mine))), loaded)

    def _is_serving(self, key: tuple[str, int]) -> bool:
        loaded = self._serving.get(key[0])
        return loaded is not None and loaded.files.version == key[1]

    def _set(self, status: VersionStatus) -> None:
        key = (status.model, status.version)
        if (old := self._statuses.get(key)) and old.digest != status.digest:
            retract(old)
        self._statuses[key] = status
        publish(status)

    def _forget(self, key: tuple[str, int]) -> None:
        retract(self._statuses.pop(key))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
