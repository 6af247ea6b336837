"""Which ONNX Runtime execution providers exist here, and with which options.

The only table to touch for a new one. A device that was asked for by name and cannot be had is
refused; nothing ever falls back in silence.
"""

import contextlib
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
from onnxruntime.datasets import get_example

from service.errors import DeviceUnavailableError

ProviderOptions = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Device:
    """A place where sessions live: "cpu", "cuda:0"."""

    kind: str
    index: int = 0
    memory_limit_bytes: int | None = None
    """Most memory that one session's arena may take; None leaves it to the device."""

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, text: str, memory_limit_bytes: int | None = None) -> "Device":
        """Read "cpu", "cuda" or "cuda:N". Raises DeviceUnavailableError on anything else."""
        kind, colon, index = text.partition(":")
        if kind not in _PROVIDERS or (colon and not index.isdecimal()):
            known = ", ".join(["auto", *_PROVIDERS])
            raise DeviceUnavailableError(f"unknown device {text!r}; known are {known} (cuda:N)")
        return cls(kind, int(index or 0), memory_limit_bytes)


def _cuda(device: Device) -> ProviderOptions:
    options: dict[str, str | int] = {
        "device_id": device.index,
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive one runs for every new shape
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles and never shrinks
    }
    if device.memory_limit_bytes is not None:
        options["gpu_mem_limit"] = device.memory_limit_bytes
    return options


def _no_options(device: Device) -> ProviderOptions:
    return {}


_PROVIDERS: Mapping[str, tuple[str, Callable[[Device], ProviderOptions]]] = {
    "cpu": ("CPUExecutionProvider", _no_options),
    "cuda": ("CUDAExecutionProvider", _cuda),
}


def provider_of(
    device: Device, available: Collection[str] | None = None
) -> tuple[str, ProviderOptions]:
    """Return the execution provider of a device and its options.

    Raises:
        DeviceUnavailableError: this onnxruntime build does not have the provider.
    """
    name, options = _PROVIDERS[device.kind]
    present = ort.get_available_providers() if available is None else available
    if name not in present:
        raise DeviceUnavailableError(
            f"{device} needs {name}, which this onnxruntime build does not have "
            f"(it has {', '.join(present)}); install onnxruntime-gpu or choose another device"
        )
    return name, options(device)


def resolve(wanted: str, memory_limit_bytes: int | None = None) -> Device:
    """Return the device to use: the one named, or for "auto" the best that works here.

    Raises:
        DeviceUnavailableError: the named device is unknown or cannot be had.
    """
    if wanted != "auto":
        device = Device.parse(wanted, memory_limit_bytes)
        if reason := why_unusable(device):
            raise DeviceUnavailableError(reason)
        return device
    best = Device("cuda", 0, memory_limit_bytes)
    return Device("cpu") if why_unusable(best) else best


def why_unusable(device: Device) -> str | None:
    """Say why a session cannot run on a device; None when it can.

    A GPU build lists its provider on machines without a GPU too, so this opens the small
    example graph that ships with onnxruntime.
    """
    try:
        provider = provider_of(device)
    except DeviceUnavailableError as error:
        return str(error)
    if device.kind == "cpu":
        return None
    ort.preload_dlls()  # CUDA and cuDNN may come from pip packages rather than the system
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(get_example("mul_1.onnx"), options, providers=[provider])
    except Exception as error:  # onnxruntime raises several types of its own
        return f"{device} cannot be used: {error}"
    if session.get_providers()[0] != provider[0]:
        return f"{device} cannot be used: onnxruntime could not start {provider[0]} here"
    return None


def available_cores() -> int:
    """Return the cores this process may use: its affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    return math.ceil(max(1.0, min(float(cores or 1), quota)))


def _cpu_quota(file: Path) -> float:
    """Return the CPUs that a cgroup v2 quota grants; infinity where there is none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    return math.inf
