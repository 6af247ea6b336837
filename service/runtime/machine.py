"""The machine, as far as the duration of a run depends on it."""

import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

from service.runtime.providers import PROVIDERS


def machine() -> Mapping[str, str]:
    """Return what the duration of a run depends on besides its model and its threads."""
    found = {"processor": _processor(), "onnxruntime": ort.__version__}
    for provider in PROVIDERS.values():
        if provider.beside is not None and (installed := _version(provider.package)):
            found[provider.package] = installed
    return found


# Both are looked up once: neither changes while the process runs, and a look-up of a package leaves
# objects that refer to themselves.


@cache
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
