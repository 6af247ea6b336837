"""A device that doubles values, a batcher on it, and a count of what it did."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.engine import ItemResult
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.errors import (
    DeviceMemoryError,
)
from service.telemetry.meters import NullMeter
from service.types import PreparedItem

POISON = -1


SECONDS = 0.1


def work(value: int, length: int = 1) -> PreparedItem:
    return PreparedItem({"x": np.array(value)}, length=length)


@dataclass
class Echo:
    """A device that takes a tenth of a second a batch, doubles values, and dies of poison."""

    batches: list[list[int]] = field(default_factory=list)
    exclusive: list[bool] = field(default_factory=list)
    memory_for: int = 1000

    async def __call__(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        values = [int(w.tensors["x"]) for w in batch]
        self.batches.append(values)
        self.exclusive.append(exclusive)
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(SECONDS)
        if len(values) > self.memory_for:
            raise DeviceMemoryError("out of memory")
        if POISON in values:
            raise RuntimeError("poisoned")
        return BatchResult([{"x": np.array(2 * value)} for value in values], started, SECONDS)


@dataclass
class Tally(NullMeter):
    """A meter that only counts."""

    isolations: int = 0
    exhaustions: int = 0
    stops: int = 0
    late: int = 0
    sizes: list[int] = field(default_factory=list)

    def batch(self, lengths: Sequence[int], queued: Sequence[float], seconds: float) -> None:
        self.sizes.append(len(lengths))

    def isolated(self) -> None:
        self.isolations += 1

    def memory_exhausted(self) -> None:
        self.exhaustions += 1

    def stopped(self) -> None:
        self.stops += 1

    def overdue(self, change: int) -> None:
        self.late += change


BATCHING_PAYS = BatchCurve.of({(1, 1): SECONDS, (8, 1): SECONDS})


@asynccontextmanager
async def running(
    device: Echo,
    tally: Tally | None = None,
    slots: int = 1,
    curve: BatchCurve = BATCHING_PAYS,
    **limits: float,
) -> AsyncIterator[Batcher]:
    asked = {"max_batch_size": 8, "max_queue_size": 16, **limits}
    batcher = Batcher(
        device,
        BatchLimits(**asked),  # type: ignore[arg-type]
        Slots(slots),
        tally or Tally(),
        curve,
        clock=asyncio.get_running_loop().time,
    )
    batcher.start()
    yield batcher
    await batcher.stop(grace=0)


def value(done: ItemResult) -> int:
    return int(done.result["x"])


async def ask(batcher: Batcher, *values: int) -> list[ItemResult | BaseException]:
    return await asyncio.gather(*(batcher.submit(work(v)) for v in values), return_exceptions=True)
