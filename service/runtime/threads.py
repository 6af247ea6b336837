"""The priority of threads that compute."""

import os
import sys
import threading
from contextlib import suppress

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
