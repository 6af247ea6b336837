"""When memory of earlier, larger runs is given back."""

import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

from service.runtime.providers import Device
from service.runtime.session import ArenaWatch, OrtSession
from service.runtime.stopping import RunStoppedError, StopSignal, obey

MANY = 1000


def given_back(watch: ArenaWatch, *sizes: int) -> list[int]:
    """Return the indices of the runs that gave memory back."""
    return [index for index, size in enumerate(sizes) if watch.options(size) is not None]


def test_runs_of_one_size_never_give_back() -> None:
    assert given_back(ArenaWatch(Device("cpu")), *[10] * MANY) == []


def test_many_smaller_runs_in_a_row_give_back_once() -> None:
    assert given_back(ArenaWatch(Device("cpu")), 100, *[10] * MANY) == [32]


def test_a_large_run_now_and_then_keeps_the_memory() -> None:
    assert given_back(ArenaWatch(Device("cpu")), *([100] + [10] * 31) * 10) == []


def test_a_run_of_half_the_size_keeps_the_memory() -> None:
    assert given_back(ArenaWatch(Device("cpu")), *([100] + [10] * 20 + [50] + [10] * 20) * 5) == []


def test_what_is_kept_then_is_what_the_largest_of_the_smaller_runs_needed() -> None:
    watch = ArenaWatch(Device("cpu"))
    assert given_back(watch, 100, 40, *[10] * 31) == [32]
    assert given_back(watch, *[19] * MANY) == [31]
    assert given_back(watch, *[10] * MANY) == []


def test_other_devices_keep_theirs() -> None:
    assert given_back(ArenaWatch(Device("cuda")), 100, *[10] * MANY) == []


def test_a_run_that_failed_for_lack_of_memory_has_the_next_one_give_back() -> None:
    watch = ArenaWatch(Device("cpu"))
    assert given_back(watch, 100) == []
    watch.give_back_next()
    assert given_back(watch, *[100] * 10) == [0]


def test_a_session_without_an_arena_has_nothing_to_give_back() -> None:
    assert given_back(ArenaWatch(Device("cpu"), has_arena=False), 100, *[10] * MANY) == []


def test_a_stopped_run_of_a_graph_that_its_input_does_not_bound_keeps_no_memory(
    graphs: ModuleType, tmp_path: Path
) -> None:
    path = graphs.filling_for_hours(tmp_path / "filling.onnx")
    session = OrtSession(path, Device("cpu"), threads=1, is_bounded=False)
    resident = psutil.Process().memory_info
    before, size = resident().rss, 512 << 20
    stop, filled = StopSignal(), threading.Event()

    def watch() -> None:
        while resident().rss < before + size // 2:
            filled.wait(0.01)
        filled.set()
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(RunStoppedError):
        obey(stop, session.run, {"n": np.array([size // 4])})
    watcher.join()
    assert filled.is_set()
    assert resident().rss < before + size // 4
