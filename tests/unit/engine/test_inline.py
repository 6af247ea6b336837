"""When a batch runs on the event loop's thread, and when no longer."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import Inline, LoopWatch, run_on
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.runtime.stopping import RunStoppedError, current_stop
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Tensors

CURVE = BatchCurve.of({(1, 10): 0.0005, (4, 10): 0.0018, (1, 20): 0.0006})
BATCH = [PreparedItem({}, length=10)]


class Clock:
    """Tells a time that advances by what a run takes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taking(
    clock: Clock, seconds: float
) -> Callable[[Sequence[PreparedItem], bool], Sequence[Tensors]]:
    def run(batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        clock.now += seconds
        return [{} for _ in batch]

    return run


@pytest.mark.parametrize(
    ("measured", "longest"),
    [
        pytest.param({10: 0.0005, 20: 0.0006}, 20, id="nothing longer than was measured"),
        pytest.param({10: 0.001, 20: 0.003}, 15, id="up to 2 ms, between two measured lengths"),
        pytest.param({10: 0.001, 20: 0.003, 30: 0.001}, 15, id="nothing beyond the first long one"),
        pytest.param({10: 0.0021, 20: 0.001}, 0, id="nothing"),
    ],
)
def test_only_what_was_measured_as_short_runs_here(
    measured: Mapping[int, float], longest: int
) -> None:
    clock = Clock()
    curve = BatchCurve.of({(1, length): seconds for length, seconds in measured.items()})
    inline = Inline(curve, taking(clock, 0.0), LoopWatch(), clock=clock)
    assert inline.longest == longest


@pytest.mark.parametrize(("seconds", "stays"), [(0.019, True), (0.021, False)])
def test_a_run_that_takes_ten_times_as_long_is_the_last_here(seconds: float, stays: bool) -> None:
    clock = Clock()
    inline = Inline(CURVE, taking(clock, seconds), LoopWatch(), clock=clock)
    inline.run(BATCH)
    assert (inline.longest > 0) is stays


class LastsHere:
    """Goes on for ever where it can be stopped only by the watch; answers at once elsewhere."""

    def __init__(self) -> None:
        self.here = threading.get_ident()
        self.threads: list[int] = []

    def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        self.threads.append(threading.get_ident())
        stop = current_stop()
        assert stop is not None
        while threading.get_ident() == self.here:
            if stop.is_set:
                raise RunStoppedError("stopped")
            time.sleep(0.01)
        return [{"x": np.array(7)} for _ in batch]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_a_run_that_keeps_the_event_loop_is_stopped_and_answered_by_a_thread(
    threads: ThreadPoolExecutor,
) -> None:
    watch, device = LoopWatch(), LastsHere()
    watch.start(asyncio.get_running_loop())
    inline = Inline(CURVE, device, watch)

    batcher = Batcher(
        partial(run_on, threads, device),
        BatchLimits(4, 16),
        Slots(1),
        NullMeter(),
        CURVE,
        inline=inline,
    )
    batcher.start()
    await asyncio.sleep(0)
    try:
        for _ in range(2):
            done = await batcher.submit(BATCH[0])
            assert int(done.result["x"]) == 7
    finally:
        await batcher.stop(grace=0)
        watch.close()
    assert device.threads[0] == device.here
    assert len(device.threads) == 3
    assert device.here not in device.threads[1:]
