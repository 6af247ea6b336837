"""A run of a real graph is stopped from another thread."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from service.engine.dispatch import run_on
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.runtime.stopping import RunStoppedError, StopSignal, obey
from service.types import PreparedItem, Span, Tensors

CPU = Device("cpu")
HOURS = np.array([1 << 60])


@pytest.fixture
def session(graphs: ModuleType, tmp_path: Path) -> OrtSession:
    return OrtSession(graphs.counting(tmp_path / "counting.onnx"), CPU, threads=1)


def bound(session: OrtSession) -> Callable[[], object]:
    out = np.empty(1, np.float32)
    return session.bind({"n": Span.of(HOURS)}, {"y": Span.of(out)})


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda session: session.run({"n": HOURS}), id="run"),
        pytest.param(lambda session: session.run_kept({"n": HOURS}, []), id="kept"),
        pytest.param(lambda session: bound(session)(), id="bound"),
    ],
)
def test_a_lasting_run_ends_when_its_signal_is_set(
    session: OrtSession, begin: Callable[[OrtSession], object]
) -> None:
    stop = StopSignal()
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(RunStoppedError):
        obey(stop, begin, session)
    timer.join()
    assert session.run({"n": np.array([3])})["y"] == 3


def test_what_was_stopped_before_it_began_does_not_begin(session: OrtSession) -> None:
    stop = StopSignal()
    stop.set()
    with pytest.raises(RunStoppedError):
        obey(stop, session.run, {"n": HOURS})


def test_only_the_run_that_obeys_the_signal_is_stopped(session: OrtSession) -> None:
    stop, other = StopSignal(), StopSignal()
    with ThreadPoolExecutor(1) as threads:
        lasting = threads.submit(obey, stop, session.run, {"n": HOURS})
        time.sleep(0.1)
        assert obey(other, session.run, {"n": np.array([1000])})["y"] == 1000
        assert not lasting.done()
        stop.set()
        with pytest.raises(RunStoppedError):
            lasting.result()


async def test_a_cancelled_batch_ends_when_its_run_has_ended(session: OrtSession) -> None:
    def run(batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        return [session.run(work.tensors) for work in batch]  # type: ignore[misc]

    with ThreadPoolExecutor(1) as threads:
        lasting = asyncio.create_task(run_on(threads, run, [PreparedItem({"n": HOURS})], False))
        behind = asyncio.create_task(run_on(threads, run, [PreparedItem({"n": HOURS})], False))
        await asyncio.sleep(0.2)
        behind.cancel()  # no thread has begun with it
        await asyncio.wait([behind])
        assert not lasting.done()
        lasting.cancel()
        await asyncio.wait([lasting])
        assert lasting.cancelled()
        ran = await run_on(threads, run, [PreparedItem({"n": np.array([4])})], False)
        assert ran.results[0]["y"] == 4
