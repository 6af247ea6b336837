"""The part of a process in what the settings give to all."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.key import Limit, rate
from service.processes.board import Board
from service.processes.parts import check, part, settings_of
from service.processes.worker import Worker
from service.settings import Settings, SettingsError, read_settings
from tests.sentences import sentence


def settings(**changes: str) -> Settings:
    given = {f"QUARTET_{name.upper()}": value for name, value in changes.items()}
    return read_settings({"QUARTET_SERVER__PROCESSES": "3", **given})


def worker(number: int, state: Any = None) -> Worker:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return Worker(number, 3, Board(3), theirs, [], state)


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_parts_make_up_the_whole_and_are_never_nothing(whole: int, processes: int) -> None:
    parts = [part(whole, processes, number) for number in range(processes)]
    assert min(parts) >= 1
    assert max(parts) - min(parts) <= 1
    assert sum(parts) == max(whole, processes)


def test_cores_memory_and_queues_are_divided() -> None:
    whole = settings(
        batching__max_queue_size="100", cache__memory_bytes="3000", server__memory_bytes="9000"
    )
    of = [settings_of(whole, worker(number), 8, is_on_host=True) for number in range(3)]
    assert [one.models.threads for one in of] == [3, 3, 2]
    assert of[2].batching.max_queue_size == 34
    assert of[2].cache.memory_bytes == 1000
    assert of[2].server.memory_bytes == 3000
    assert of[2].limits.max_bodies_bytes == part(whole.limits.max_bodies_bytes, 3)
    assert of[2].limits.max_videos == 2


def test_a_body_of_the_largest_size_fits_the_part_of_a_process() -> None:
    whole = settings(limits__max_bodies_bytes="1000", limits__max_body_bytes="900")
    assert settings_of(whole, worker(0), 2, is_on_host=True).limits.max_bodies_bytes == 900


def test_memory_is_limited_on_the_host_only_and_as_the_operator_says() -> None:
    def limit(is_on_host: bool, **changes: str) -> int | None:
        return settings_of(settings(**changes), worker(0), 2, is_on_host).server.memory_bytes

    assert limit(is_on_host=True)
    assert limit(is_on_host=False) is None
    assert limit(is_on_host=True, server__memory_bytes="0") == 0


def test_a_worker_that_starts_later_has_the_aliases_of_the_others() -> None:
    whole = settings(models__aliases="m@prod=1")
    state = {"serving": {}, "unloaded": [], "aliases": {"m@prod": "2"}}
    assert settings_of(whole, worker(0), 2, True).models.aliases == {"m@prod": "1"}
    assert settings_of(whole, worker(0, state), 2, True).models.aliases == {"m@prod": "2"}


@pytest.mark.parametrize(
    "wrong", [{"streams__sources": "file:///srv/"}, {"server__grpc_port": "0"}]
)
def test_what_several_processes_cannot_do_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, check=sentence):
        check(settings(**wrong))


def test_a_process_gets_its_part_of_a_limit_of_a_key() -> None:
    assert Limit("items", 100, 60).part(3) == Limit("items", 34, 60)
    assert Limit("items", 100, 60).part(1) == Limit("items", 100, 60)
    whole, parted = rate(30.0, 60), rate(30.0, 60).part(3)
    assert (parted.most, parted.spacing) == (20, 3 * whole.spacing)
    assert parted.seconds == whole.seconds
    assert rate(0.5, 1).part(4).most == 1
