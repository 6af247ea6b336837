"""How the load generator itself fares: a busy one is late, and blames the service for it."""

import time
from collections import deque
from typing import NoReturn

import gevent

from loadtest.run import Run

_BEAT_SECONDS = 0.05
_WINDOW = 5


def watch(run: Run) -> NoReturn:
    """Record how late this process's timers go off and how busy it is, while it runs."""
    shares: deque[float] = deque(maxlen=_WINDOW)
    while True:
        started, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - started < 1.0:
            before = time.perf_counter()
            gevent.sleep(_BEAT_SECONDS)
            run.tally.lag.append(max(0.0, time.perf_counter() - before - _BEAT_SECONDS))
        shares.append((time.process_time() - cpu) / (time.perf_counter() - started))
        if len(shares) == _WINDOW:
            run.tally.cpu_peak = max(run.tally.cpu_peak, sum(shares) / _WINDOW)
