"""A batch runs on one of the device's threads."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.engine.dispatch import run_on
from service.types import PreparedItem, Tensors

BATCH = [PreparedItem({}, length=10)]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_batch_runs_on_a_thread_of_the_device(
    threads: ThreadPoolExecutor, exclusive: bool
) -> None:
    ran: list[tuple[int, bool]] = []

    def device(batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        ran.append((threading.get_ident(), exclusive))
        return [{"x": np.array(index)} for index, _ in enumerate(batch)]

    result = await run_on(threads, device, BATCH * 4, exclusive)
    ((thread, flag),) = ran
    assert thread != threading.get_ident()
    assert flag == exclusive
    assert [int(each["x"]) for each in result.results] == [0, 1, 2, 3]
    assert result.seconds >= 0


async def test_a_failure_on_the_thread_is_raised(threads: ThreadPoolExecutor) -> None:
    def fail(batch: Sequence[PreparedItem], exclusive: bool) -> Sequence[Tensors]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await run_on(threads, fail, BATCH, True)
