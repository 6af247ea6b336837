"""The end of the process, whatever still runs in it.

The interpreter waits at its end for threads, and a thread that computes ends when it is done.
"""

import logging
import os
import threading
import time

from service.apart import THREAD_NAME

_log = logging.getLogger(__name__)

_JOIN_SECONDS = 0.2
"""How long idle threads may take to end by themselves."""

_LOG_SECONDS = 0.1
"""How long the last line may take to be written; its reader may be stuck."""

_ABANDONED = 1
"""Exit status where something had to be abandoned."""


def end_within(seconds: float) -> None:
    """End the process after so many seconds, if it has not ended by then."""
    timer = threading.Timer(seconds, _abandon, ["the stop took too long"])
    timer.daemon = True
    timer.name = "end"
    timer.start()


def leave_threads_behind() -> None:
    """End the process at once if threads are left that compute; else return."""
    until = time.monotonic() + _JOIN_SECONDS
    for thread in _lasting():
        thread.join(max(0.0, until - time.monotonic()))
    if left := _lasting():
        _abandon(f"{len(left)} threads still compute")


def _lasting() -> list[threading.Thread]:
    """Return the threads whose end the interpreter would wait for, or must not interrupt."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and (not thread.daemon or thread.name == THREAD_NAME)
    ]


def _abandon(why: str) -> None:
    event = "process ended with work left undone"
    said = threading.Thread(
        target=_log.critical, args=(event,), kwargs={"extra": {"reason": why}}, daemon=True
    )
    said.start()
    time.sleep(_LOG_SECONDS)  # also for the thread that writes the log
    os._exit(_ABANDONED)
