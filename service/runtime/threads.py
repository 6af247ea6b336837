"""How the threads that compute stand to the event loop."""

import os
import sys
import threading
from contextlib import suppress

_STEPS_BACK = 5
"""Of niceness: a third of the processor's time of who does not step back, where both want it."""


def step_back() -> None:
    """Let other threads of the process go first, where the system can (Linux).

    For threads that compute: the event loop, which everybody waits for, uses little and needs it at
    once. Two busy compute threads on two cores kept refusals of an overloaded service waiting for
    tenths of a second (decision 16).
    """
    if sys.platform != "linux":  # elsewhere niceness is of processes
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it, and the thread is of use all the same
        before = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(19, before + _STEPS_BACK))
