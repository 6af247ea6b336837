"""Memory and load of an NVIDIA GPU, read from the driver by NVML. Absent on CPU."""

import asyncio
import logging
from collections.abc import Callable
from types import ModuleType

from service.runtime.providers import Device
from service.telemetry import metrics

try:  # part of the extra "gpu"; the same service runs without it
    import pynvml
except ImportError:
    pynvml = None

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 5.0


async def watch_gpu(device: Device, nvml: ModuleType | None = pynvml) -> None:
    """Keep the GPU metrics up to date until cancelled; return at once without an NVIDIA GPU."""
    if not device.provider.has_nvml:
        return
    read = open_reader(device, nvml)
    while read is not None:
        await asyncio.to_thread(read)
        await asyncio.sleep(_EVERY_SECONDS)


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
