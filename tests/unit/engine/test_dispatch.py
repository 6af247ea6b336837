"""Where a batch runs: on the event loop's thread, or on one of the device's."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.engine.curve import BatchCurve
from service.engine.dispatch import run_near, run_on
from service.engine.inline import Inline
from service.engine.loop_watch import LoopWatch
from service.engine.queue import RunHere
from service.types import PreparedItem, Tensors

CURVE = BatchCurve.of({(1, 10): 0.0005, (4, 10): 0.0018, (8, 10): 0.0035, (1, 100): 0.006})
BATCH = [PreparedItem({}, length=10)]


def inline(run: RunHere) -> Inline:
    return Inline(CURVE, run, LoopWatch())


class Device:
    """Remembers on which threads it ran, and whether it was told that it is alone."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, bool]] = []

    def __call__(self, batch: Sequence[PreparedItem], alone: bool) -> Sequence[Tensors]:
        self.ran.append((threading.get_ident(), alone))
        return [{"x": np.array(index)} for index, _ in enumerate(batch)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_a_short_batch_of_an_idle_device_runs_here_and_on_one_thread(
    threads: ThreadPoolExecutor,
) -> None:
    device = Device()
    ran = await run_near(threads, inline(device), device, BATCH * 4, True)
    assert device.ran == [(threading.get_ident(), False)]
    assert [int(result["x"]) for result in ran.results] == [0, 1, 2, 3]
    assert ran.seconds >= 0


@pytest.mark.parametrize(
    ("batch", "alone"),
    [
        pytest.param(BATCH, False, id="others run"),
        pytest.param(BATCH * 8, True, id="many rows"),
        pytest.param([*BATCH, PreparedItem({}, length=100)], True, id="a long row"),
    ],
)
async def test_any_other_batch_runs_on_a_thread_of_the_device(
    threads: ThreadPoolExecutor, batch: Sequence[PreparedItem], alone: bool
) -> None:
    device = Device()
    ran = await run_near(threads, inline(device), device, batch, alone)
    ((thread, told),) = device.ran
    assert thread != threading.get_ident()
    assert told == alone
    assert len(ran.results) == len(batch)


async def test_a_failure_here_is_the_callers_as_one_on_a_thread_is(
    threads: ThreadPoolExecutor,
) -> None:
    def fail(batch: Sequence[PreparedItem], alone: bool) -> Sequence[Tensors]:
        raise RuntimeError("broken")

    for alone in (True, False):
        with pytest.raises(RuntimeError, match="broken"):
            await run_near(threads, inline(fail), fail, BATCH, alone)
    with pytest.raises(RuntimeError, match="broken"):
        await run_on(threads, fail, BATCH, True)
