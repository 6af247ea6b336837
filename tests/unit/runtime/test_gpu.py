"""GPU metrics, against a driver that is a small fake."""

from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from service.engine.device import installed_nvml, open_reader, watch_gpu
from service.runtime.providers import Device


class NvmlError(Exception):
    """What the driver's library raises."""


def driver(gpus: int) -> SimpleNamespace:
    def handle(index: int) -> int:
        if index >= gpus:
            raise NvmlError("Invalid Argument")
        return index

    return SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=3, total=8),
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=25),
    )


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"device": "cuda:1", **labels})


def test_memory_and_load_are_read_from_the_driver() -> None:
    open_reader(Device("cuda", 1), driver(2))()  # type: ignore[arg-type, misc]
    assert sample("device_memory_bytes", kind="used") == 3
    assert sample("device_memory_bytes", kind="total") == 8
    assert sample("device_utilisation_ratio") == 0.25


@pytest.mark.parametrize("nvml", [None, driver(1)])
async def test_without_a_driver_there_are_no_metrics_and_no_failure(nvml) -> None:
    await watch_gpu(Device("cuda", 1), lambda: nvml)


async def test_a_cpu_is_not_watched(looptime) -> None:
    await watch_gpu(Device("cpu"), lambda: driver(1))  # type: ignore[arg-type, return-value]
    assert looptime == 0


@pytest.mark.gpu
def test_a_real_driver_answers() -> None:
    cuda = Device("cuda")
    if reason := cuda.provider.problem(cuda):
        pytest.skip(reason)
    assert open_reader(cuda, installed_nvml()) is not None
