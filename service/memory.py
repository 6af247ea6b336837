"""The process's memory: what the C library keeps of what was freed, and how much there may be."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_SHARE = 0.9
"""Of the memory there is: the rest is for the system, and for files that are read."""

_LEAST = 1 << 30
"""Bytes. Stacks of threads count with all that they may grow to, so a limit near what a small
process really uses would refuse what fits."""

_CGROUPS = Path("/sys/fs/cgroup")

# Once: a library of ctypes refers to itself, so every further one would be garbage to collect.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_TRIM, _MALLOPT = getattr(_LIBC, "malloc_trim", None), getattr(_LIBC, "mallopt", None)

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK = 12 * 1024 * 1024
"""Bytes: an image of three megapixels, and more than most batches."""


def map_large_blocks() -> None:
    """Take large blocks from the system, where the C library can (glibc), and not from the heap.

    Pillow allocates an image with the interpreter locked, and a block of the heap has to be set to
    zero first: for 12 megapixels no other thread runs Python for 30 ms. Pages of the system are
    zero, and are given back once they are freed.
    """
    if _MALLOPT is not None:
        _MALLOPT(_MMAP_THRESHOLD, _LARGE_BLOCK)
        _MALLOPT(_TRIM_THRESHOLD, 2 * _LARGE_BLOCK)  # what glibc has once such a block was freed


def return_free_memory() -> None:
    """Give freed heap pages back to the system, where the C library can (glibc).

    Opening a session frees about as much as it keeps: the file, and the weights before they
    were packed. glibc would hold on to it.
    """
    if _TRIM is not None:
        _TRIM(0)


def own_memory() -> int:
    """Return the bytes of memory that hold the process's own data; 0 where it cannot be read.

    Files that are mapped do not count: the system drops their pages when it needs memory.
    """
    with suppress(OSError, ValueError, IndexError):
        _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0


def default_memory_limit(groups: Path = _CGROUPS) -> int:
    """Return the bytes that the process's own data may take: most of the machine's or cgroup's."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _limit_files(groups):
        with suppress(OSError, ValueError):  # not there, or "max"
            available = min(available, int(file.read_text()))
    return max(_LEAST, int(_SHARE * available))


def limit_memory(most: int) -> None:
    """Limit the process's own data to this many bytes, where the system supports it (Linux).

    What asks for more then gets an error, where the system would otherwise end the process.
    """
    if sys.platform != "linux":
        return
    import resource  # noqa: PLC0415 - not on every system

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _limit_files(groups: Path) -> list[Path]:
    """Return where the cgroup of this process, and those around it, may say their limit."""
    files = [groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            own = groups / line.rpartition(":")[2].strip("/")
            files += [folder / "memory.max" for folder in (own, *own.parents)]
    return files
