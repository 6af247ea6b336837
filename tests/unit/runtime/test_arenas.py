"""When memory of earlier, larger runs is given back."""

from service.runtime.providers import Device
from service.runtime.session import ArenaWatch

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


def test_a_graph_whose_memory_its_input_does_not_bound_gives_back_every_time() -> None:
    assert given_back(ArenaWatch(Device("cpu"), is_bounded=False), 10, 10) == [0, 1]
