"""The machine, as far as the duration of a run depends on it."""

import contextlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

from service.runtime.providers import PROVIDERS


def machine() -> Mapping[str, str]:
    """Return what the duration of a run depends on besides its model and its threads."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    found = {"processor": processor, "onnxruntime": ort.__version__}
    for provider in PROVIDERS.values():
        if provider.beside is not None:
            with contextlib.suppress(PackageNotFoundError):
                found[provider.package] = version(provider.package)
    return found
