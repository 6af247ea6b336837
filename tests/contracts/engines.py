"""Engines of every kind, made alike."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.engine.batcher import Batcher
from service.engine.curve import BatchCurve
from service.engine.dispatch import BatchResult
from service.engine.engine import Engine, ItemResult
from service.engine.inflight.engine import InFlightEngine, InstanceOptions
from service.engine.inflight.step_loop import StepLoop
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.slots import Slots
from service.telemetry.meters import NullMeter
from service.types import PreparedItem, Sessions, Tensors
from tests.contracts.loopback import LoopbackEngine

SECONDS = 0.1


QUEUE = 4


POISON = -1


def curve(rows: int) -> BatchCurve:
    """Return that a batch takes as long as an item."""
    return BatchCurve.of({(count, 1): SECONDS for count in (1, rows)})


def item(value: int, steps: int = 1) -> PreparedItem:
    return PreparedItem(
        {"x": np.array(value, np.int32), "steps": np.array(steps), "text": np.array("né")},
        group=(1, 0.5, "a", None),
    )


def doubled(prepared: PreparedItem) -> Tensors:
    value = prepared.tensors["x"]
    if value == POISON:
        raise RuntimeError("poisoned")
    return {"x": 2 * value, "text": prepared.tensors["text"]}


@dataclass
class Model:
    """Doubles values, and records in which order; a step takes a tenth of a second."""

    started: list[int] = field(default_factory=list)

    async def run_batch(self, batch: Sequence[PreparedItem], exclusive: bool) -> BatchResult:
        self.started += [int(each.tensors["x"]) for each in batch]
        began = asyncio.get_running_loop().time()
        seconds = SECONDS * max(int(each.tensors["steps"]) for each in batch)
        await asyncio.sleep(seconds)
        return BatchResult([doubled(each) for each in batch], began, seconds)

    def open_rows(self) -> "Rows":
        return Rows(self)

    def rows_for(self, work: PreparedItem) -> int:
        return 1


@dataclass
class Rows:
    model: Model
    items: dict[Hashable, PreparedItem] = field(default_factory=dict)
    done: dict[Hashable, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def in_use(self) -> int:
        return len(self.items)

    def prefill(self, sessions: Sessions, items: Mapping[Hashable, PreparedItem]) -> None:
        self.model.started += [int(each.tensors["x"]) for each in items.values()]
        self.items.update(items)
        self.done.update(dict.fromkeys(items, 0))

    def step(self, sessions: Sessions) -> Mapping[Hashable, Tensors]:
        finished = {}
        for key, prepared in self.items.items():
            self.done[key] += 1
            if self.done[key] >= prepared.tensors["steps"]:
                finished[key] = doubled(prepared)
        self.drop(frozenset(finished))
        return finished

    def drop(self, keys: frozenset[Hashable]) -> None:
        for key in keys:
            del self.items[key], self.done[key]

    def reset(self) -> None:
        self.items.clear()
        self.done.clear()

    def progress(self, keys: frozenset[Hashable]) -> Mapping[Hashable, Tensors]:
        return {key: {"steps": np.array(self.done[key])} for key in keys if key in self.done}


async def run_loop(steps: StepLoop) -> None:
    while steps.prepare():
        await asyncio.sleep(SECONDS)
        steps.step()


def use(act: Any, exclusive: bool) -> Any:
    return act({})


def batcher(model: Model, rows: int, incoming: PreprocessQueue | None) -> Engine:
    clock = asyncio.get_running_loop().time
    limits = BatchLimits(rows, QUEUE)
    return Batcher(
        model.run_batch, limits, Slots(1), NullMeter(), curve(rows), clock=clock, incoming=incoming
    )


def in_flight(model: Model, rows: int, incoming: PreprocessQueue | None) -> Engine:
    clock = asyncio.get_running_loop().time
    instances = InstanceOptions(1, rows, Slots(1), use, run_loop)
    limits = BatchLimits(rows, QUEUE)
    return InFlightEngine(
        model, instances, limits, NullMeter(), curve(rows), clock=clock, incoming=incoming
    )


def loopback(make: Callable[..., Engine]) -> Callable[..., Engine]:
    return lambda *arguments: LoopbackEngine(make(*arguments))


MAKERS = {
    "batcher": batcher,
    "in flight": in_flight,
    "batcher over bytes": loopback(batcher),
    "in flight over bytes": loopback(in_flight),
}


@asynccontextmanager
async def running(make: Any, rows: int = 4, incoming: PreprocessQueue | None = None) -> Any:
    model = Model()
    engine = make(model, rows, incoming)
    engine.start()
    try:
        yield engine, model
    finally:
        await engine.stop(grace=0)


def value(result: object) -> int:
    assert isinstance(result, ItemResult), result
    return int(result.result["x"])


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
