"""A thread that looks after the event loop, which cannot look after itself while it computes."""

import asyncio
import logging
import threading
import time

from service.runtime.stopping import StopSignal
from service.telemetry.metrics import EVENT_LOOP_LAG_SECONDS

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5

_RUN_SECONDS = 1.0
"""How long a run may keep the event loop: everything else of the process waits for it."""

_STALL_SECONDS = 5.0
"""How long the event loop may stand still before a log line says so."""


class LoopWatch:
    """Stops runs that keep the event loop, and measures how late the loop is with its work."""

    def __init__(self) -> None:
        self._run: tuple[StopSignal, float] | None = None
        self._ended = threading.Event()
        self._asked_at: float | None = None
        self._told = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch a loop, until `close`."""
        threading.Thread(target=self._watch, args=(loop,), name="loop-watch", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()

    def begin(self, stop: StopSignal) -> None:
        """Note that a run begins on the event loop's thread."""
        self._run = stop, time.perf_counter()

    def end(self) -> None:
        """Note that it has ended."""
        self._run = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            now = time.perf_counter()
            run = self._run
            if run is not None and now - run[1] > _RUN_SECONDS:
                run[0].set()
            if self._asked_at is None:
                self._asked_at, self._told = now, False
                try:
                    loop.call_soon_threadsafe(self._answer)
                except RuntimeError:  # the loop is closed
                    return
            elif now - self._asked_at > _STALL_SECONDS and not self._told:
                self._told = True
                _log.error("the event loop stands still", extra={"seconds": now - self._asked_at})

    def _answer(self) -> None:
        if self._asked_at is not None:
            EVENT_LOOP_LAG_SECONDS.observe(time.perf_counter() - self._asked_at)
            self._asked_at = None
