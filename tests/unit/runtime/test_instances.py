"""Which sessions run a batch, and what happens when they break."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.engine.warmup import WarmUpPlan, lone_length, measure, multi_thread_pays
from service.errors import DeviceMemoryError
from service.runtime.instances import Instances
from service.runtime.ort_errors import PoisonedSessionError
from service.runtime.providers import Device
from service.types import PreparedItem, Sessions, Tensors

GRAPHS = {"model": Path("model.onnx")}
CPU = Device("cpu")


class Opened:
    """A session that only knows with how many threads it was opened."""

    def __init__(self, path: Path, device: Device, threads: int) -> None:
        self.threads = threads


def instances(narrow: int, wide: int, device: Device = CPU) -> Instances:
    return Instances(GRAPHS, device, (narrow, wide), Opened)


def threads(sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
    return [{"threads": np.array(sessions["model"].threads)} for _ in batch]


def used(opened: Instances, exclusive: bool) -> int:
    return int(opened.infer(threads, [PreparedItem({})], exclusive)[0]["threads"])


def test_a_lone_batch_gets_the_whole_device_and_others_share_it() -> None:
    opened = instances(1, 4)
    assert [used(opened, exclusive=True), used(opened, exclusive=False)] == [4, 1]


def test_sessions_that_do_not_help_are_given_up() -> None:
    opened = instances(1, 4)
    opened.keep_multi_thread(False)
    assert used(opened, exclusive=True) == 1
    assert repr(opened) == "<Instances of model on cpu, single-thread>"


def test_one_core_and_a_gpu_need_no_second_set() -> None:
    assert instances(1, 1).multi_thread is None
    assert instances(1, 4, Device("cuda")).multi_thread is None


def test_a_broken_session_is_reopened_for_the_next_run() -> None:
    opened = instances(1, 1)
    before = opened.single_thread

    def breaks(sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        raise PoisonedSessionError("CUDA failure 700")

    with pytest.raises(PoisonedSessionError):
        opened.infer(breaks, [PreparedItem({})], exclusive=False)
    assert opened.single_thread is not before
    assert opened.rebuilds == 1
    assert used(opened, exclusive=False) == 1


def test_running_out_of_memory_needs_no_new_session() -> None:
    opened = instances(1, 1)

    def starves(sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        raise DeviceMemoryError("no memory")

    with pytest.raises(DeviceMemoryError):
        opened.infer(starves, [PreparedItem({})], exclusive=False)
    assert opened.rebuilds == 0


class Clocked:
    """Runs take as long as they say; `monkeypatch` makes the clock theirs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shapes: list[tuple[int, int]] = []

    def clock(self) -> float:
        return self.now

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        self.shapes.append((len(batch), batch[0].length))
        self.now += sessions["model"].seconds * (4 + len(batch) * batch[0].length)
        return [{} for _ in batch]


class Slow:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def probe(length: int) -> PreparedItem:
    return PreparedItem({}, length=length)


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    fake = Clocked()
    monkeypatch.setattr("service.engine.warmup.time.perf_counter", fake.clock)
    monkeypatch.setattr("service.engine.warmup.time.sleep", lambda _: None)
    return fake


def test_every_bucket_is_run_and_timed(clocked: Clocked) -> None:
    plan = WarmUpPlan([8, 16], max_batch_size=4, max_batch_cost=None, budget_seconds=1e9)
    measured = measure(clocked.infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert measured == {
        (rows, length): pytest.approx(0.5 * (4 + rows * length))
        for rows in (1, 2, 4)
        for length in (8, 16)
    }


def test_the_budget_stops_large_batches_but_every_length_runs_once(clocked: Clocked) -> None:
    plan = WarmUpPlan([8, 16], max_batch_size=64, max_batch_cost=None, budget_seconds=100.0)
    measured = measure(clocked.infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert {(1, 8), (1, 16)} <= set(measured)
    assert (64, 16) not in measured
    assert clocked.now < 250


def test_what_is_over_the_budget_runs_once(clocked: Clocked) -> None:
    plan = WarmUpPlan([8, 16], max_batch_size=1, max_batch_cost=None, budget_seconds=1.0)
    measure(clocked.infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert clocked.shapes == [(1, 8), (1, 16)]


@pytest.mark.parametrize(
    ("seconds", "length"), [((0.01, 0.02, 0.04), 16), ((0.01, 0.2, 0.4), 8), ((1, 2, 3), 8)]
)
def test_sessions_are_compared_at_the_middle_length_unless_that_takes_long(
    seconds: Sequence[float], length: int
) -> None:
    measured = {(1, n): taken for n, taken in zip((8, 16, 32), seconds, strict=True)}
    assert lone_length(measured, (8, 16, 32)) == length


def test_batches_that_no_longer_gain_are_not_grown(clocked: Clocked) -> None:
    plan = WarmUpPlan([1000], max_batch_size=64, max_batch_cost=None, budget_seconds=1e9)
    measured = measure(clocked.infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert set(measured) == {(1, 1000), (2, 1000), (4, 1000)}


def test_a_moment_of_noise_does_not_end_the_growth_of_batches(clocked: Clocked) -> None:
    looks = 0

    def infer(sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        nonlocal looks
        looks += len(batch) == 8
        if looks <= 2 and len(batch) == 8:  # as many runs as a first look takes
            clocked.now += 1000
        return clocked.infer(sessions, batch)

    plan = WarmUpPlan([1], max_batch_size=16, max_batch_cost=None, budget_seconds=1e9)
    measured = measure(infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert measured[8, 1] == pytest.approx(0.5 * (4 + 8))
    assert (16, 1) in measured


def test_batches_over_the_cost_limit_are_not_tried(clocked: Clocked) -> None:
    plan = WarmUpPlan([8, 16], max_batch_size=4, max_batch_cost=32, budget_seconds=1e9)
    measured = measure(clocked.infer, {"model": Slow(0.5)}, probe, plan, clocked.clock)
    assert set(measured) == {(1, 8), (1, 16), (2, 8), (2, 16), (4, 8)}


def test_a_session_of_one_thread_is_timed_by_that_thread_alone() -> None:
    assert instances(1, 1).clock is time.thread_time
    assert instances(2, 4).clock is time.perf_counter


@pytest.mark.parametrize("scale", [1e-4, 1.0], ids=["short", "long"])
@pytest.mark.parametrize(("wide", "pays"), [(0.5, True), (0.97, False), (1.2, False)])
def test_a_second_set_must_clearly_save_time(
    clocked: Clocked, scale: float, wide: float, pays: bool
) -> None:
    sessions = {"model": Slow(scale)}, {"model": Slow(scale * wide)}
    assert multi_thread_pays(clocked.infer, *sessions, probe(8)) is pays


@pytest.mark.parametrize(("scale", "pays"), [(1e-4, False), (1.0, True)], ids=["short", "long"])
def test_one_bad_moment_does_not_decide_over_long_works(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch, scale: float, pays: bool
) -> None:
    wide = Slow(scale)

    def recover(_: float) -> None:
        wide.seconds = scale / 2

    monkeypatch.setattr("service.engine.warmup.time.sleep", recover)
    assert (
        multi_thread_pays(clocked.infer, {"model": Slow(scale)}, {"model": wide}, probe(8)) is pays
    )
