"""A model whose items take a given number of steps, and an engine of it."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.engine.engine import ItemResult
from service.engine.inflight.engine import InFlightEngine, InstanceOptions
from service.engine.inflight.step_loop import StepLoop
from service.engine.policy import BatchLimits
from service.engine.slots import Slots
from service.errors import (
    DeviceMemoryError,
)
from service.runtime.stopping import RunStoppedError
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Sessions, Tensors

STEP = 0.1


POISON, UNREADABLE, LASTS = -1, -2, -3


def work(value: int, steps: int = 1, rows: int = 1) -> PreparedItem:
    return PreparedItem({"x": np.array(value), "steps": np.array(steps)}, group=rows)


@dataclass
class Countdown:
    """Rows in which a work stays for as many steps as it says, and is doubled."""

    left: dict[Hashable, int] = field(default_factory=dict)
    works: dict[Hashable, PreparedItem] = field(default_factory=dict)
    log: list[list[int]] = field(default_factory=list)
    """Whose steps were computed together."""
    memory_for: int = 1000
    resets: int = 0

    @property
    def count(self) -> int:
        return len(self.works)

    @property
    def in_use(self) -> int:
        return sum(int(work.group) for work in self.works.values())  # type: ignore[call-overload]

    def prefill(self, sessions: Sessions, items: Mapping[Hashable, PreparedItem]) -> None:
        if any(value(work) == UNREADABLE for work in items.values()):
            raise RuntimeError("cannot be read")
        self.works.update(items)
        self.left.update({key: int(work.tensors["steps"]) for key, work in items.items()})

    def step(self, sessions: Sessions) -> Mapping[Hashable, Tensors]:
        values = [value(work) for work in self.works.values()]
        self.log.append(values)
        if len(values) > self.memory_for:
            raise DeviceMemoryError("no memory")
        if POISON in values:
            raise RuntimeError("poisoned")
        if LASTS in values:
            raise RunStoppedError("the step was stopped")
        done = {}
        for key in list(self.works):
            self.left[key] -= 1
            if self.left[key] == 0:
                done[key] = {"x": np.array(2 * value(self.works[key]))}
                self.drop(frozenset({key}))
        return done

    def drop(self, keys: frozenset[Hashable]) -> None:
        for key in keys:
            del self.works[key], self.left[key]

    def reset(self) -> None:
        self.works.clear()
        self.left.clear()
        self.resets += 1

    def progress(self, keys: frozenset[Hashable]) -> Mapping[Hashable, Tensors]:
        return {key: {"left": np.array(self.left[key])} for key in keys if key in self.left}


@dataclass
class Model:
    memory_for: int = 1000
    opened: list[Countdown] = field(default_factory=list)

    def open_rows(self) -> Countdown:
        self.opened.append(Countdown(memory_for=self.memory_for))
        return self.opened[-1]

    def rows_for(self, work: PreparedItem) -> int:
        return int(work.group)  # type: ignore[call-overload]

    @property
    def log(self) -> list[list[int]]:
        return [values for rows in self.opened for values in rows.log]


def value(work: PreparedItem) -> int:
    return int(work.tensors["x"])


def doubled(done: ItemResult) -> int:
    return int(done.result["x"])


async def run_loop(steps: StepLoop) -> None:
    while steps.prepare():
        await asyncio.sleep(STEP)
        while any(value(entry.prepared) == LASTS for entry in steps._instance.running):
            await asyncio.sleep(STEP)
            if steps.stop.is_set:
                break
        steps.step()


def use(act: Any, exclusive: bool) -> Any:
    return act({})


@asynccontextmanager
async def running(
    model: Model, instances: int = 1, most_rows: int = 4, slots: Slots | None = None
) -> AsyncIterator[InFlightEngine]:
    engine = InFlightEngine(
        model,
        InstanceOptions(instances, most_rows, slots or Slots(instances), use, run_loop),
        BatchLimits(max_batch_size=most_rows, max_queue_size=6),
        NullMeter(),
        clock=asyncio.get_running_loop().time,
    )
    engine.start()
    yield engine
    await engine.stop(grace=0)
