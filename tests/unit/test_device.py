"""What a load runs on the device, in turn with the models."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from service.engine.device import DeviceRuntime
from service.runtime.providers import Device
from service.runtime.stopping import apart, current_stop

pytestmark = pytest.mark.looptime(False)  # real threads


@pytest.fixture
def runtime() -> Iterator[DeviceRuntime]:
    runtime = DeviceRuntime(Device("cpu"), 1)
    yield runtime
    runtime.close()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - of another thread's doing there is no event
        await asyncio.sleep(0.01)


class Lasting:
    """Goes on until `ends` is set, and returns whether it was stopped."""

    def __init__(self) -> None:
        self.begun, self.ends, self.told = threading.Event(), threading.Event(), False

    def __call__(self) -> None:
        stop = current_stop()
        assert stop is not None
        self.begun.set()
        self.ends.wait(30)
        self.told = stop.is_set


async def test_a_cancelled_turn_keeps_its_slot_until_it_has_ended(runtime: DeviceRuntime) -> None:
    lasting, slots = Lasting(), runtime.slots
    turn = asyncio.create_task(runtime.in_turn(lasting))
    await asyncio.to_thread(lasting.begun.wait, 30)
    turn.cancel()
    await asyncio.wait([turn])
    assert turn.cancelled()
    assert slots.free == slots.count - 1
    await until(lambda: slots.are_lost)
    assert runtime.problem() == "all 1 threads of cpu are held by runs that do not end"
    lasting.ends.set()
    await until(lambda: slots.free == slots.count)
    assert lasting.told
    assert runtime.problem() is None
    assert await runtime.in_turn(int, "5") == 5


async def test_a_turn_that_is_cancelled_when_it_has_ended_is_not_overdue(
    runtime: DeviceRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.slots.STOP_SECONDS", 0)
    for callbacks in range(3):  # of the end, which the loop has run when the load is cancelled
        turn = asyncio.create_task(runtime.in_turn(int))
        await asyncio.sleep(0)  # it takes its slot
        runtime.compute.submit(int).result()  # the only thread: the turn's run has ended, too
        for _ in range(callbacks):
            await asyncio.sleep(0)
        turn.cancel()
        await asyncio.wait([turn])
        await until(lambda: runtime.slots.free == runtime.slots.count)
        await asyncio.sleep(0.01)  # for the timer of a stop
        assert runtime.problem() is None


async def test_what_is_called_apart_is_left_behind_when_it_is_cancelled() -> None:
    lasting = Lasting()
    call = asyncio.create_task(apart(lasting))
    await asyncio.to_thread(lasting.begun.wait, 30)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    lasting.ends.set()
    await until(lambda: lasting.told)


async def test_what_is_called_apart_returns_and_raises() -> None:
    assert await apart(int, "7") == 7
    with pytest.raises(ValueError, match="seven"):
        await apart(int, "seven")
