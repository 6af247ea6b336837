"""Threads that compute: how many there may be, and their priority."""

import math
import os
import sys
import threading
import time
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


class ComputeClock:
    """Processor time in seconds of the calling thread and of threads that Python did not start.

    These compute a run. Python's other threads, such as the event loop, are left out: while another
    program has the processor a run lasts longer, and they would do more meanwhile. Elsewhere than
    on Linux it is the processor time of the process.
    """

    def __init__(self) -> None:
        """Take the threads that there are now."""
        self._seconds: dict[int, float] = {}
        if sys.platform == "linux":
            others = {one.native_id for one in threading.enumerate()} - {threading.get_native_id()}
            tasks = {int(entry.name) for entry in Path("/proc/self/task").iterdir()}
            self._seconds = dict.fromkeys(tasks - others, 0.0)

    def __repr__(self) -> str:
        return f"<ComputeClock of {len(self._seconds)} threads>"

    def __call__(self) -> float:
        """Return the seconds so far; of a thread that has ended, those last seen."""
        if not self._seconds:
            return time.process_time()
        for thread in self._seconds:
            with suppress(OSError):  # it has ended
                # The kernel's number of the clock of a thread's processor time.
                self._seconds[thread] = time.clock_gettime((~thread << 3) | 6)
        return sum(self._seconds.values())
