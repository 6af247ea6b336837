"""A device, shared by all models on it: its threads and slots, and the load of its GPU."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

from service.engine.dispatch import LoopWatch
from service.engine.slots import Overdue, Slots
from service.engine.turns import LoadTurns
from service.engine.warmup import dispatch_seconds
from service.memory import own_memory, return_free_memory
from service.runtime.providers import Device
from service.runtime.stopping import StopSignal, obey
from service.runtime.threads import lower_priority
from service.telemetry import metrics
from service.telemetry.meters import NullMeter

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Batches formed before a thread is free, so that a thread starts its next batch without waiting
# for the event loop: 5 % more throughput of a DistilBERT-size classifier at 32 and 64 in flight
# (two cores, interleaved runs).
_READY = 1


@dataclass(eq=False, slots=True)
class DeviceRuntime:
    """A device with its threads, shared by all models on it."""

    device: Device
    cores: int
    slots: Slots = field(init=False)
    compute: ThreadPoolExecutor = field(init=False)
    preprocess: ThreadPoolExecutor = field(init=False)
    turns: LoadTurns = field(init=False)
    watch: LoopWatch = field(default_factory=LoopWatch, init=False)
    """Stops runs that block the event loop for too long."""
    _dispatch: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        provider = self.device.provider
        count = provider.most_batches
        if provider.our_threads:
            count = min(self.cores, count)
        self.slots = Slots(count, _READY)
        self.compute = ThreadPoolExecutor(count, "compute", lower_priority)
        self.turns = LoadTurns(max(1, self.cores))
        self.preprocess = ThreadPoolExecutor(max(1, self.cores), "preprocess")

    @property
    def threads(self) -> tuple[int, int]:
        """Return the thread counts of single-thread and of multi-thread sessions."""
        if not self.device.provider.our_threads:
            return 1, 1
        return max(1, self.cores // self.slots.threads), self.cores

    def problem(self) -> str | None:
        """Return why the device cannot compute, or None if it can."""
        if not self.slots.are_lost:
            return None
        return f"all {self.slots.threads} threads of {self.device} are held by runs that do not end"

    async def dispatch(self) -> float:
        """Return the seconds a batch costs besides its computation; measured once."""
        if self._dispatch is None:
            self._dispatch = await dispatch_seconds(self.compute, self.slots)
        return self._dispatch

    async def in_turn(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on a compute thread, in turn with the batches of the models.

        Cancelling the call stops the run and returns at once; the slot is released when its thread
        has really ended with it.
        """
        await self.slots.acquire()
        loop, stop = asyncio.get_running_loop(), StopSignal()
        overdue = Overdue(self.slots, NullMeter())

        def release() -> None:
            overdue.note_end(stop)
            self.slots.release()

        def end(_: "Future[T]") -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(release)

        running = self.compute.submit(obey, stop, function, *arguments)
        running.add_done_callback(end)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            stop.set()
            if not running.done():  # else `release` may have been called: it would stay overdue
                overdue.note_stop(stop)
            raise
        finally:
            del running  # a failed future would keep this frame, and the frame the future

    def close(self) -> None:
        """End each thread after its current run, without waiting for that."""
        for threads in (self.compute, self.preprocess):
            threads.shutdown(wait=False, cancel_futures=True)


_EVERY_SECONDS = 5.0


def installed_nvml() -> ModuleType | None:
    """Return the driver's library, a part of the extra "gpu"; None without it."""
    with suppress(ImportError):
        return import_module("pynvml")
    return None


async def watch_gpu(
    device: Device, find_nvml: Callable[[], ModuleType | None] = installed_nvml
) -> None:
    """Keep the GPU metrics up to date until cancelled; return at once without an NVIDIA GPU."""
    if not device.provider.has_nvml:
        return
    read = open_reader(device, find_nvml())
    while read is not None:
        await asyncio.to_thread(read)
        await asyncio.sleep(_EVERY_SECONDS)


def memory_in_use(
    device: Device, find_nvml: Callable[[], ModuleType | None] = installed_nvml
) -> int | None:
    """Return the bytes in use where models of a device are; None where nothing tells."""
    if device.provider.is_on_host:
        return_free_memory()
        return own_memory() or None
    if not device.provider.has_nvml or (nvml := find_nvml()) is None:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index)
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except nvml.NVMLError:
        return None


def open_reader(device: Device, nvml: ModuleType | None) -> Callable[[], None] | None:
    """Return a function that sets the metrics once; None, and a warning, where NVML cannot."""
    if nvml is None:
        _log.warning("no GPU metrics", extra={"reason": "nvidia-ml-py is not installed"})
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(device.index)
    except nvml.NVMLError as error:
        _log.warning("no GPU metrics", extra={"reason": str(error)})
        return None

    def read() -> None:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        metrics.DEVICE_MEMORY_BYTES.labels(str(device), "used").set(memory.used)
        metrics.DEVICE_MEMORY_BYTES.labels(str(device), "total").set(memory.total)
        busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        metrics.DEVICE_UTILISATION_RATIO.labels(str(device)).set(busy / 100)

    return read
