"""Threads that compute let the event loop go first."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.engine.device import DeviceRuntime
from service.runtime.providers import Device
from service.runtime.threads import ComputeClock, lower_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness here")


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_that_computes_steps_back_behind_the_one_that_made_it() -> None:
    runtime = DeviceRuntime(Device("cpu"), cores=2)
    try:
        assert runtime.compute.submit(_niceness).result() > _niceness()
        assert runtime.preprocess.submit(_niceness).result() == _niceness()
    finally:
        runtime.close()


def test_who_is_as_nice_as_can_be_stays_so() -> None:
    def twice_and_more() -> int:
        for _ in range(5):
            lower_priority()
        return _niceness()

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(twice_and_more).result() == 19


def test_where_it_is_forbidden_threads_compute_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbid(*arguments: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid)
    with ThreadPoolExecutor(1, initializer=lower_priority) as threads:
        assert threads.submit(int).result() == 0


def _spin(seconds: float, clock: Callable[[], float]) -> None:
    until = clock() + seconds
    while clock() < until:
        pass


def test_the_clock_of_a_run_leaves_out_what_other_threads_of_python_do() -> None:
    with ThreadPoolExecutor(1) as other:
        other.submit(int).result()
        clock = ComputeClock()
        before = clock()
        other.submit(_spin, 0.3, time.thread_time).result()
        assert clock() - before < 0.1
        _spin(0.3, time.thread_time)
        assert clock() - before >= 0.3
