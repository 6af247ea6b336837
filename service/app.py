"""The composition root: builds the engine, and the HTTP application on top of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from service.access.access import Access
from service.access.keys_file import KeysFileError
from service.cache.memory import CacheBackend, MemoryBackend, NullBackend, TieredBackend
from service.cache.responses import ResponseCache
from service.engine.device import DeviceRuntime, watch_gpu
from service.engine.factory import EngineFactory
from service.registry.choice import Chooser
from service.registry.loader import Loader
from service.registry.measurements import MeasurementsFolder
from service.registry.preparation import BatchingOverrides
from service.registry.registry import Registry
from service.registry.wanted import RegistryOptions
from service.repository.repository import ModelRepository
from service.requests.admission import ApiLimits
from service.runtime.providers import resolve
from service.runtime.threads import available_cores
from service.settings import (
    CacheSettings,
    ModelSettings,
    ServerSettings,
    Settings,
    SettingsError,
    StreamSettings,
)
from service.telemetry import metrics
from service.telemetry_setup import make_observer, open_traces
from service.transforms.vision.image import DECODING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.access.shared import RedisCounts
    from service.api import ApiContext, Lifecycle
    from service.api.certificate import Certificate
    from service.cache.redis import RedisBackend
    from service.live.streams import LiveStreams
    from service.processes.worker import Worker
    from service.protocols.oip.rpc.server import GrpcServer

_log = logging.getLogger(__name__)


def make_cache(settings: CacheSettings) -> CacheBackend:
    """Return the configured backend; with Redis, memory in front of it."""
    match settings.backend:
        case "none":
            return NullBackend()
        case "memory":
            return memory_backend(settings)
        case "redis":
            return TieredBackend(memory_backend(settings), redis_backend(settings))


def memory_backend(settings: CacheSettings) -> MemoryBackend:
    """Return the level in memory."""
    return MemoryBackend(settings.memory_bytes, settings.memory_entries, settings.ttl_seconds)


def redis_backend(settings: CacheSettings) -> "RedisBackend":
    """Return the level in Redis, not connected yet."""
    # 8 MB, which a process without Redis does not need.
    from service.cache.redis import RedisBackend, RedisOptions  # noqa: PLC0415

    secret = settings.redis_secret
    options = RedisOptions(
        url=settings.redis_url or "",
        prefix=settings.redis_prefix,
        ttl=settings.ttl_seconds,
        get_timeout=settings.redis_timeout_ms / 1000,
        readers=settings.redis_readers,
        secret=b"" if secret is None else secret.get_secret_value().encode(),
    )
    return RedisBackend(options)


def open_device(settings: ModelSettings) -> DeviceRuntime:
    """Take the device, and say which one it is.

    Raises:
        DeviceUnavailableError: the named device cannot be had; nothing else is tried.
    """
    cores = settings.threads or available_cores()
    device = replace(
        resolve(settings.device, settings.device_memory_bytes),
        cores=cores,
        cache_folder=settings.measurements and settings.measurements.expanduser(),
    )
    runtime = DeviceRuntime(device, cores)
    # Slots, and not the runtime, which the series would keep alive.
    slots, name, provider = runtime.slots, str(device), device.provider.name
    metrics.DEVICE_INFO.labels(name, provider, str(cores)).set(1)
    metrics.DEVICE_SLOTS.labels(name).set(slots.threads)
    metrics.DEVICE_RUNNING_BATCHES.labels(name).set_function(lambda: slots.running)
    metrics.DEVICE_BUSY_SECONDS.labels(name).set_function(lambda: slots.busy_seconds)
    _log.info("device", extra={"device": name, "provider": provider, "threads": cores})
    return runtime


def make_counts(settings: CacheSettings, backend: CacheBackend) -> "RedisCounts | None":
    """Return counts of limits in the configured Redis, with the cache's breaker; None without."""
    if settings.redis_url is None:
        return None
    from service.access.shared import TAKE, RedisCounts  # noqa: PLC0415
    from service.cache.redis import RedisBackend  # noqa: PLC0415

    far = backend.far if isinstance(backend, TieredBackend) else None
    redis = far if isinstance(far, RedisBackend) else redis_backend(settings)
    return RedisCounts(redis.script(TAKE), settings.redis_prefix)


def open_access(settings: Settings, counts: "RedisCounts | None" = None) -> Access | None:
    """Return the known keys; None without a keys file, with a warning if others can connect.

    Raises:
        SettingsError: the keys file or the administrators' token cannot be read.
    """
    file = settings.access.keys_file
    if file is None:
        if settings.server.is_on_network and not settings.server.is_loopback:
            _log.warning(
                "no keys are set: everyone who can connect may use the models; set access.keys_file"
            )
        return None
    parts = settings.server.processes if counts is None else 1
    try:
        return Access(file, settings.admin.read_token(), counts, parts)
    except KeysFileError as error:
        raise SettingsError(f"access.keys_file: {error}") from None


def open_grpc(
    settings: ServerSettings, context: "ApiContext", certificate: "Certificate | None"
) -> "GrpcServer | None":
    """Return the gRPC server, which does not listen yet; None without a port.

    Raises:
        SettingsError: gRPC is not installed.
    """
    if settings.grpc_port is None:
        return None
    try:
        from service.protocols.oip.rpc.server import GrpcServer  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            f"server.grpc_port is {settings.grpc_port}, but {error.name} is not installed; "
            "it comes with the extra grpc: pip install 'quartet[grpc]'"
        ) from None
    server = GrpcServer(context, settings.host, settings.grpc_port, certificate)
    server.shares_port = settings.processes > 1
    return server


def open_streams(settings: StreamSettings) -> "LiveStreams":
    """Return the live streams; none runs yet. Raises SettingsError for a wrong address."""
    from service.live.address import AllowedSources  # noqa: PLC0415 - as the API, in `build_app`
    from service.live.streams import LiveStreams  # noqa: PLC0415

    try:
        return LiveStreams(AllowedSources(settings.sources))
    except ValueError as error:
        raise SettingsError(str(error)) from None


async def _stop_beside(context: "ApiContext", grpc: "GrpcServer | None", seconds: float) -> None:
    """Stop what does not end with its requests, when a stop begins."""
    await context.streams.close()  # else their readers would wait for the end of the grace period
    if grpc is not None:
        await grpc.stop(seconds)


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything below the API: models, device and cache."""

    registry: Registry
    runtime: DeviceRuntime
    cache: CacheBackend

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Registry]:
        """Open what needs an event loop; in the end stop the models and close everything."""
        async with AsyncExitStack() as stack:
            stack.callback(self.runtime.close)
            stack.push_async_callback(self.cache.close)
            await self.cache.open()
            self.runtime.watch.start(asyncio.get_running_loop())
            stack.callback(self.runtime.watch.close)
            stack.callback(asyncio.create_task(watch_gpu(self.runtime.device)).cancel)
            # At the end whatever was accepted has been answered, or has had its time.
            stack.push_async_callback(self.registry.stop, 0)
            yield self.registry


def build_engine(settings: Settings, worker: "Worker | None" = None) -> Engine:
    """Put the engine together; no model is loaded yet. A worker shares changes with others.

    Raises:
        DeviceUnavailableError: the named device cannot be had.
    """
    backend = make_cache(settings.cache)
    runtime = open_device(settings.models)
    batching, models = settings.batching, settings.models
    overrides = BatchingOverrides(
        batching.max_batch_size,
        batching.max_queue_size,
        batching.max_queue_delay_ms / 1000,
        processes=settings.server.processes,
    )
    cache = ResponseCache(backend, enabled=settings.cache.enabled)
    seconds = models.warm_up_seconds, models.load_timeout_seconds
    chooser = Chooser(
        models.provider,
        models.exactness,
        any_precision=models.precision is None,
        seconds=models.warm_up_seconds,
    )
    measurements = MeasurementsFolder(models.measurements and models.measurements.expanduser())
    registry = registry_of(worker)(
        ModelRepository(models.repository, models.folders),
        Loader(EngineFactory(runtime), cache, overrides, *seconds, measurements, chooser=chooser),
        RegistryOptions(
            device_kind=runtime.device.provider.precisions_of,
            models=models.only or None,
            versions=models.versions,
            precision=models.precision,
            defaults=models.defaults,
            aliases=models.read_aliases(),
            drain_seconds=settings.server.grace_seconds,
            max_queue_size=batching.max_queue_size,
            parallel_loads=runtime.cores,
            processes=settings.server.processes,
            memory_bytes=models.memory_bytes,
            resident=models.pinned,
        ),
    )
    return Engine(registry, runtime, backend)


def registry_of(worker: "Worker | None") -> Callable[..., Registry]:
    """Return what makes the registry of a process."""
    if worker is None:
        return Registry
    from service.processes.registry import SharedRegistry  # noqa: PLC0415

    return partial(SharedRegistry, worker)


def build_app(
    settings: Settings,
    lifecycle: "Lifecycle",
    certificate: "Certificate | None" = None,
    worker: "Worker | None" = None,
) -> "FastAPI":
    """Return the application; its lifespan opens the engine and begins to load the models.

    Raises:
        DeviceUnavailableError: the named device cannot be had.
        SettingsError: the keys file or the administrators' token cannot be read, or what traces
            or gRPC need is not installed.
    """
    # Here, so that an engine can be built in a process without HTTP.
    from service.api import ApiContext, build_api  # noqa: PLC0415
    from service.page.page import page_routes  # noqa: PLC0415
    from service.protocols import protocol_routes  # noqa: PLC0415

    engine = build_engine(settings, worker)
    DECODING.most = settings.models.max_decoding_pixels
    counts = make_counts(settings.cache, engine.cache)
    access = open_access(settings, counts)
    traces = open_traces(settings.traces)
    context = ApiContext(
        registry=engine.registry,
        lifecycle=lifecycle,
        limits=ApiLimits(**settings.limits.model_dump()),
        admin_token=settings.admin.read_token(),
        access=access,
        observer=make_observer(settings.logs, traces),
        device_problem=engine.runtime.problem,
        streams=open_streams(settings.streams),
        metrics=None if worker is None else worker.metrics,
        quarantine=None if worker is None else worker.quarantine,
        root_path=settings.server.root_path,
    )
    beside = open_grpc(settings.server, context, certificate)

    @asynccontextmanager
    async def lifespan(app: "FastAPI") -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if traces is not None:
                stack.push_async_callback(asyncio.to_thread, traces.close)
            if worker is not None:
                await stack.enter_async_context(worker.connected())
            registry = await stack.enter_async_context(engine.running())
            if access is not None and counts is not None:
                stack.push_async_callback(counts.close)
                counts.open()
            for watched in (access, certificate):
                if watched is not None:
                    stack.callback(asyncio.create_task(watched.watch()).cancel)
            registry.start()
            stack.push_async_callback(context.streams.close)
            if beside is not None:
                await beside.start()
            lifecycle.stop_beside = partial(_stop_beside, context, beside)
            yield

    return build_api(context, lifespan, [*protocol_routes(), *page_routes()])
