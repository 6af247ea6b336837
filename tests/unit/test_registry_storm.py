"""Random storms of loads, reloads, unloads, failures, cancellations, requests and a stop.

The clock is virtual and every wait has a random length, so that the operations meet at any of the
registry's awaits. A seed that fails fails again: it is in the test's name.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import fields
from typing import Any

import pytest
from fakes import ShelfLoaded, ShelfLoader, ShelfRepository
from prometheus_client import REGISTRY

from service.errors import (
    ModelNotReadyError,
    OverloadedError,
    ServiceError,
    ShuttingDownError,
)
from service.registry.loader import Loaded
from service.registry.progress import EnterPhase
from service.registry.registry import Registry
from service.registry.status import ModelState
from service.registry.wanted import RegistryOptions
from service.repository.repository import VersionFiles
from service.requests.request import Request
from service.tasks import ClassifyItem, Task, Text
from tests.sentences import sentence

MODELS = ("storm-a", "storm-b")
VERSIONS = [1, 2, 3]
STEPS = 60


class StormLoaded(ShelfLoaded):
    """Takes any time to close."""

    async def close(self, grace: float) -> int:
        running = await super().close(grace)
        await pause(random.Random(len(self.files.model) + self.files.version))
        return running


class StormLoader(ShelfLoader):
    """Takes any time to load, and remembers how often each version was closed."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(compute_seconds=chance.choice([0.1, 5.0]))
        self.chance = chance
        self.loaded: list[tuple[Loaded, list[tuple[str, int]]]] = []

    async def load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        await pause(self.chance)
        loaded = await super().load(files, enter)
        closings: list[tuple[str, int]] = []
        values = {field.name: getattr(loaded, field.name) for field in fields(loaded)}
        stormy = StormLoaded(**{**values, "closings": closings})
        self.loaded.append((stormy, closings))
        return stormy


async def pause(chance: random.Random) -> None:
    await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0]))


class Storm:
    def __init__(self, chance: random.Random, drain_seconds: float) -> None:
        self.chance = chance
        self.loader = StormLoader(chance)
        self.repository = ShelfRepository({model: VERSIONS for model in MODELS})
        pinned = {"storm-b": 2} if chance.random() < 0.5 else {}
        options = RegistryOptions("cpu", versions=pinned, drain_seconds=drain_seconds)
        self.drain_seconds = drain_seconds
        self.registry = Registry(self.repository, self.loader, options)
        self.running: set[asyncio.Task[None]] = set()
        self.cancelled: set[asyncio.Task[None]] = set()
        self.is_stopped = False
        self.answered = 0

    async def ask(self) -> None:
        model = self.chance.choice([*MODELS, None, "nobody", f"{MODELS[0]}@prod"])
        try:
            pipeline = self.registry.find(Task.CLASSIFY, "text", model, None)
        except ServiceError:
            return
        for _ in range(self.chance.randrange(4)):  # as a request's tasks begin some turns later
            await asyncio.sleep(0)
        try:
            await pipeline.answer(ClassifyItem(Text("four")), Request())
            self.answered += 1
        except OverloadedError:
            pass
        except ModelNotReadyError:  # then it is said as it is, and only where the drain is short
            assert self.drain_seconds < 1
        except ShuttingDownError:
            assert self.is_stopped

    async def load(self) -> None:
        version = self.chance.choice([None, None, 1, 2, 3, 9])
        status = await self.registry.load(self.chance.choice([*MODELS, "nobody"]), version)
        assert status.state is ModelState.READY

    async def unload(self) -> None:
        await self.registry.unload(self.chance.choice([*MODELS, "nobody"]))

    async def reload_and_unload(self) -> None:
        model = self.chance.choice(MODELS)
        await self.registry.load(model, 1)
        await pause(self.chance)
        await self.registry.unload(model)

    async def move_an_alias(self) -> None:
        weights = {self.chance.choice(VERSIONS): 1.0, self.chance.choice(VERSIONS): 2.0}
        alias = self.chance.choice(["prod", "default"])
        given = self.chance.choice([weights, weights, None])
        await self.registry.set_alias(self.chance.choice(MODELS), alias, given)

    async def look(self) -> None:
        self.registry.statuses()
        self.registry.status(self.chance.choice([*MODELS, "nobody"]))
        self.registry.not_ready()

    async def change_the_disk(self) -> None:
        key = (self.chance.choice(MODELS), self.chance.choice(VERSIONS))
        faults = [self.loader.failing, self.loader.crashing, self.repository.broken]
        self.chance.choice(faults).symmetric_difference_update({key})
        self.repository.is_gone = self.chance.random() < 0.2

    async def cancel(self) -> None:
        victims = sorted(self.running - {asyncio.current_task()}, key=lambda task: task.get_name())
        if victims:
            victim = self.chance.choice(victims)
            self.cancelled.add(victim)
            victim.cancel()

    def begin(self, number: int) -> None:
        doings: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.ask, self.ask, self.ask, self.ask, self.ask, self.load, self.load, self.unload,
            self.reload_and_unload, self.move_an_alias, self.move_an_alias, self.look,
            self.change_the_disk, self.cancel,
        ]  # fmt: skip
        doing = self.chance.choice(doings)
        task = asyncio.create_task(doing(), name=f"{number:03d} {doing.__name__}")
        self.running.add(task)
        task.add_done_callback(self.note_end)

    def note_end(self, task: "asyncio.Task[None]") -> None:
        self.running.discard(task)
        if task.cancelled():
            assert task in self.cancelled, f"{task.get_name()} was cancelled by the registry"
        elif error := task.exception():
            assert isinstance(error, ServiceError), f"{task.get_name()}: {error!r}"
            assert self.is_stopped or not isinstance(error, ShuttingDownError)

    def check(self) -> None:
        """What always holds between two turns of the loop."""
        registry = self.registry
        ready = set()
        for status in registry.statuses():
            assert status.version is not None
            key = (status.model, status.version)
            if status.state is ModelState.READY:
                ready.add(key)
            elif status.state is ModelState.DRAINING:
                assert registry._draining.has(*key)
            elif status.state is ModelState.LOADING:
                assert status.model in registry._changes.loading
        keys = {(status.model, status.version) for status in registry.statuses()}
        assert {(d.files.model, d.files.version) for d in registry._draining._tasks} <= keys
        closed = {id(loaded) for loaded, closings in self.loader.loaded if closings}
        assert ready == {loaded.key for loaded in registry._versions}
        assert not closed & {id(loaded) for loaded in registry._versions}
        settled = set(registry._serving) - registry._changes.loading
        assert not settled & set(registry.not_ready())
        for model in MODELS:  # what serves is the default or named
            named = {*registry._versions.aliases.versions(model)}
            beside = set(registry._versions.beside.get(model, {}))
            assert beside <= named
            assert not beside or model in registry._serving


def series(name: str) -> list[str]:
    metrics = [metric for metric in REGISTRY.collect() if metric.name == name]
    samples = [sample for metric in metrics for sample in metric.samples]
    return [str(s.labels) for s in samples if s.labels.get("model", "").startswith("storm-")]


@pytest.mark.parametrize("seed", range(40))
async def test_a_storm_breaks_no_promise(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)

    async def to_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        await pause(chance)
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    caplog.set_level(logging.CRITICAL)
    before = asyncio.all_tasks()
    storm = Storm(chance, drain_seconds=chance.choice([0.06, 30.0]))
    failures: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(str(context)))
    storm.registry.start()
    for number in range(STEPS):
        storm.begin(number)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
            storm.check()
        if chance.random() < 0.6:
            await pause(chance)
            storm.check()
    storm.is_stopped = True
    await storm.registry.stop(grace=chance.choice([0, 1]))
    await asyncio.sleep(600)
    assert storm.running == set()
    assert failures == []
    assert [len(closings) for _, closings in storm.loader.loaded] == [1] * len(storm.loader.loaded)
    assert list(storm.registry._versions) == []
    assert not any(storm.registry._draining.has(m, v) for m in MODELS for v in VERSIONS)
    assert asyncio.all_tasks() == before
    assert series("model_loading_seconds") == []


async def test_reload_then_unload_within_the_drain() -> None:
    loader = ShelfLoader(compute_seconds=2.0)
    registry = Registry(ShelfRepository({"a": [1]}), loader, RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    pipeline = registry.find(Task.CLASSIFY, "text", "a", None)
    running = asyncio.create_task(pipeline.answer(ClassifyItem(Text("four")), Request()))
    await asyncio.sleep(0)
    await registry.load("a", 1)
    await registry.unload("a")
    assert (await running).answer.labels[0].name == "4"
    await asyncio.sleep(3)
    assert registry.statuses() == []
    assert loader.closed == [("a", 1)] * 2
    await registry.stop(0)


async def test_a_request_that_found_its_version_before_the_unload_is_answered() -> None:
    registry = Registry(ShelfRepository({"a": [1]}), ShelfLoader(), RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    pipeline = registry.find(Task.CLASSIFY, "text", "a", None)
    unloading = asyncio.create_task(registry.unload("a"))
    await asyncio.sleep(0.02)
    outcome = await pipeline.answer(ClassifyItem(Text("four")), Request())
    assert outcome.answer.labels[0].name == "4"
    await unloading
    await registry.stop(0)


async def test_an_unload_whose_caller_leaves_is_finished() -> None:
    loader = ShelfLoader()
    registry = Registry(ShelfRepository({"a": [1]}), loader, RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    unloading = asyncio.create_task(registry.unload("a"))
    await asyncio.sleep(0.01)
    unloading.cancel()
    await asyncio.sleep(1)
    assert registry.statuses() == []
    assert loader.closed == [("a", 1)]
    await registry.stop(0)


async def test_a_load_that_ends_after_the_stop_is_closed() -> None:
    loader = ShelfLoader()
    registry = Registry(ShelfRepository({"a": [1, 2]}), loader, RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    late = asyncio.create_task(registry.load("a", 1))
    await asyncio.sleep(0.5)
    await registry.stop(0)
    with pytest.raises(ShuttingDownError):
        await late
    assert loader.closed == [("a", 2), ("a", 1)]
    for doing in (registry.load("a"), registry.unload("a")):
        with pytest.raises(ShuttingDownError):
            await doing


async def test_an_item_whose_drain_is_cut_short_is_told_that_its_model_was_unloaded() -> None:
    options = RegistryOptions("cpu", drain_seconds=0.1)
    loader = ShelfLoader(compute_seconds=60)
    registry = Registry(ShelfRepository({"a": [1]}), loader, options)
    registry.start()
    await asyncio.sleep(1.5)
    pipeline = registry.find(Task.CLASSIFY, "text", "a", None)
    running = asyncio.create_task(pipeline.answer(ClassifyItem(Text("four")), Request()))
    await asyncio.sleep(0)
    await registry.unload("a")
    with pytest.raises(ModelNotReadyError, check=sentence):
        await running
    with pytest.raises(ModelNotReadyError, check=sentence):
        pipeline.check_room()
    await registry.stop(0)
