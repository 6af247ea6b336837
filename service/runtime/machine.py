"""The machine, as far as the duration of a run depends on it."""

import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

from service.runtime.providers import PROVIDERS

_VECTORS = re.compile("sse|avx|fma|f16c|amx|asimd|sve|sme(?!p)|fphp|i8mm|bf16")


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
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if name := processor_of(text):
            return name
    return platform.processor() or platform.machine()


def processor_of(text: str) -> str:
    """Return the name and the vector instructions of the first processor in a /proc/cpuinfo.

    Virtual machines hide instructions and keep the name. Empty if the text has neither.
    """
    first = text.partition("\n\n")[0]
    facts = {
        key.strip(): value.split()
        for key, _, value in (line.partition(":") for line in first.splitlines())
    }
    flags = [*facts.get("flags", ()), *facts.get("Features", ())]  # x86, ARM
    return " ".join([*facts.get("model name", ()), *sorted(filter(_VECTORS.match, flags))])


@cache
def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
