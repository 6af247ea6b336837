"""Threads that compute: how many there may be, and their priority."""

import math
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

# Niceness added to compute threads: they get about a third of the processor time of other threads
# where both compete.
_NICENESS = 5


def lower_priority() -> None:
    """Lower the priority of the calling thread, on Linux; does nothing elsewhere.

    For compute threads: the event loop needs little processor time, but needs it at once. Two
    busy compute threads on two cores delayed the refusals of an overloaded service by tenths of
    a second (decision 16). Threads that the calling thread starts later have its priority.
    """
    if sys.platform != "linux":  # elsewhere niceness belongs to processes
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(19, before + _NICENESS))


def available_cores() -> int:
    """Return the cores this process may use: its affinity, cut by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    return math.ceil(max(1.0, min(float(cores or 1), quota)))


def _cpu_quota(file: Path) -> float:
    """Return the CPUs that a cgroup v2 quota grants; infinity where there is none."""
    with suppress(OSError, ValueError):
        quota, period = file.read_text(encoding="ascii").split()
        return int(quota) / int(period)
    return math.inf
