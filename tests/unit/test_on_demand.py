"""More models than memory: loads on demand, what leaves for them, and what never fails."""

import asyncio
import gc
import random
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from fakes import ShelfLoader, ShelfRepository

from service.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    ServiceError,
)
from service.registry import on_demand
from service.registry.aliases import Aliases
from service.registry.budget import Resident, next_to_evict
from service.registry.loader import Loaded
from service.registry.progress import EnterPhase
from service.registry.registry import Registry, RegistryOptions
from service.repository.repository import VersionFiles
from service.requests.answer import found
from service.requests.request import Request
from service.tasks import ClassifyItem, Task, Text
from tests.sentences import sentence

SIZE = 10
"""Bytes that a version takes."""


@dataclass
class SizedLoader(ShelfLoader):
    """Counts loads, and what all loaded versions take."""

    sizes: dict[str, int] = field(default_factory=dict)
    loads: Counter[str] = field(default_factory=Counter)
    most: int = 0

    def memory_of(self, files: VersionFiles) -> int | None:
        return self.sizes.get(files.model, SIZE)

    async def load(self, files: VersionFiles, enter: EnterPhase) -> Loaded:
        self.loads[files.model] += 1
        loaded = await ShelfLoader.load(self, files, enter)
        loaded.memory_bytes = self.sizes.get(files.model, SIZE)
        self.most = max(self.most, sum(self.loads.values()) - len(self.closed))
        return loaded


@asynccontextmanager
async def serving(
    models: Sequence[str] = "abc",
    places: float = 2,
    loader: SizedLoader | None = None,
    versions: Sequence[int] = (1,),
    **options: Any,
) -> AsyncIterator[tuple[Registry, SizedLoader]]:
    """Serve models with memory for this many of them."""
    loader = loader or SizedLoader()
    wanted = RegistryOptions("cpu", memory_bytes=int(SIZE * places), **options)
    shelf = {model: list(versions) for model in models}
    registry = Registry(ShelfRepository(shelf), loader, wanted)
    registry.start()
    await asyncio.sleep(0.1 + 2 * len(options.get("resident", ())))
    yield registry, loader
    await registry.stop(grace=0)


async def ask(registry: Registry, model: str | None, patience: float | None = 30.0) -> int:
    """Ask a model; return the version that answered."""
    now = asyncio.get_running_loop().time()
    request = Request(deadline=None if patience is None else now + patience)
    find = partial(registry.find, Task.CLASSIFY, "text", model, None)
    pipeline = await found(find, request)
    await pipeline.answer(ClassifyItem(Text("four")), request)
    return pipeline.model.version


def states(registry: Registry) -> dict[str, str]:
    return {status.model: status.state.value for status in registry.statuses()}


def resident(registry: Registry) -> set[str]:
    return {status.model for status in registry.statuses() if status.resident}


async def test_only_pinned_models_are_loaded_at_start_and_all_can_answer() -> None:
    async with serving(resident=["b"]) as (registry, loader):
        assert states(registry) == {"a": "on_demand", "b": "ready", "c": "on_demand"}
        assert registry.not_ready() == {}
        assert await ask(registry, "c") == 1
        assert resident(registry) == {"b", "c"}
        assert loader.loads == {"b": 1, "c": 1}


async def test_one_load_answers_all_requests_that_wait_for_it() -> None:
    async with serving() as (registry, loader):
        await asyncio.gather(*(ask(registry, "a") for _ in range(50)))
        assert loader.loads == {"a": 1}


async def test_the_least_recently_used_idle_model_leaves_and_a_pinned_one_never() -> None:
    async with serving("abcd", places=3, resident=["a"]) as (registry, loader):
        for model in "bcb":
            await ask(registry, model)
        await asyncio.sleep(10)
        await ask(registry, "d")
        assert resident(registry) == {"a", "b", "d"}
        assert loader.closed == [("c", 1)]
        assert states(registry)["c"] == "on_demand"


async def test_a_request_that_cannot_wait_is_told_when_to_come_again() -> None:
    async with serving() as (registry, _):
        with pytest.raises(ModelNotReadyError, check=sentence) as refused:
            await ask(registry, "a", patience=0.5)
        assert refused.value.retry_after == pytest.approx(2)
        await asyncio.sleep(1)  # the load goes on
        assert await ask(registry, "a", patience=0.5) == 1


async def test_a_load_that_waits_for_memory_ends_with_its_last_request() -> None:
    async with serving("abc", places=1, resident=["a"]) as (registry, loader):
        with pytest.raises(ModelNotReadyError, check=sentence):
            await ask(registry, "b", patience=2)
    async with serving("abc", places=2, resident=["a"]) as (registry, loader):
        await ask(registry, "b")
        with registry.named("b").held(), pytest.raises(ModelNotReadyError, check=sentence):
            await ask(registry, "c", patience=5.02)
        await asyncio.sleep(5)
        assert resident(registry) == {"a", "b"}
        assert states(registry)["c"] == "on_demand"
        assert loader.loads["c"] == 0
        assert await ask(registry, "c") == 1


async def test_a_load_that_failed_is_remembered_and_tried_again_later() -> None:
    loader = SizedLoader(failing={("a", 1)})
    async with serving(loader=loader) as (registry, _):
        for _ in range(3):
            with pytest.raises(ModelNotReadyError, check=sentence) as refused:
                await ask(registry, "a")
            assert 0 < (refused.value.retry_after or 0) <= 5
        assert (loader.loads["a"], states(registry)["a"]) == (1, "failed")
        assert registry.not_ready() == {}  # the others answer
        await asyncio.sleep(6)
        with pytest.raises(ModelNotReadyError):
            await ask(registry, "a")
        assert loader.loads["a"] == 2
        loader.failing.clear()
        await registry.load("a")  # an administrator need not wait
        assert await ask(registry, "a") == 1


async def test_a_model_that_can_never_fit_is_refused_with_its_numbers() -> None:
    loader = SizedLoader(sizes={"a": 3 << 20})
    async with serving(loader=loader, resident=["b"], places=2e5) as (registry, _):
        with pytest.raises(ModelNotReadyError, check=sentence):
            await ask(registry, "a")
        with pytest.raises(ModelLoadError, check=sentence):
            await registry.load("a")
        assert loader.loads["a"] == 0


async def test_what_an_administrator_unloads_stays_unloaded() -> None:
    async with serving() as (registry, _loader):
        await ask(registry, "a")
        await registry.unload("a")
        await registry.unload("b")  # which was not in memory
        for model in "ab":
            with pytest.raises(ModelNotReadyError, check=sentence):
                await ask(registry, model)
        assert states(registry) == {"c": "on_demand"}
        await registry.load("b")
        assert await ask(registry, "b") == 1
        with pytest.raises(ModelNotReadyError):
            await registry.unload("a")


async def test_what_a_model_cannot_do_does_not_load_it() -> None:
    async with serving() as (registry, loader):
        with pytest.raises(ModelNotFoundError, check=sentence):
            registry.find(Task.DETECT, "image", "a", None)
        with pytest.raises(ModelNotFoundError):
            registry.find(Task.CLASSIFY, "text", "z", None)
        assert not loader.loads


async def test_requests_of_several_models_do_not_wait_for_one_another() -> None:
    async with serving("abcd") as (registry, loader):

        async def both(first: str, second: str) -> None:
            def find() -> list[Any]:
                return [registry.named(first), registry.named(second)]

            pipelines = await found(find, Request(deadline=asyncio.get_running_loop().time() + 60))
            assert [pipeline.model.name for pipeline in pipelines] == [first, second]

        await asyncio.gather(*(both(*pair) for pair in ("ab", "cd", "ac", "bd")))
        assert loader.most <= 3  # the third drains


async def test_a_model_that_is_never_idle_gives_way_and_loses_no_request() -> None:
    async with serving("ab", places=1) as (registry, loader):
        async with asyncio.TaskGroup() as group:

            async def flood(model: str) -> None:
                for _ in range(100):
                    await ask(registry, model, patience=None)

            for model in "aaaabbbb":
                group.create_task(flood(model))
        assert 1 < loader.loads["a"] < 40


async def test_forty_models_share_memory_for_five_and_nothing_fails() -> None:
    names = [f"m{number:02}" for number in range(40)]
    choices = random.Random(7)
    async with serving(names, places=5) as (registry, loader):
        for model in names:
            loader.families.pop(model, None)

        async def client() -> None:
            for _ in range(12):
                await ask(registry, choices.choice(names), patience=120)
                await asyncio.sleep(choices.random())

        await asyncio.gather(*(client() for _ in range(20)))
        assert loader.most <= 6
        assert sum(loader.loads.values()) > 40


async def test_aliases_weights_and_sticky_keys_work_without_the_model_in_memory() -> None:
    aliases = Aliases({"a@prod": "1", "a@default": "1:50+2:50"})
    async with serving("ab", places=3, versions=(1, 2), aliases=aliases) as (registry, _loader):
        assert await ask(registry, "a@prod") == 1
        keys = [f"key{number}" for number in range(20)]

        def chosen() -> list[int]:
            return [registry.named("a", None, key).model.version for key in keys]

        before = chosen()
        assert set(before) == {1, 2}
        await asyncio.sleep(10)
        await ask(registry, "b")
        await registry.set_alias("b", "next", {1: 1.0})
        assert resident(registry) == {"b"}
        await asyncio.sleep(10)
        assert await ask(registry, "a@prod") == 1
        assert chosen() == before
        assert resident(registry) == {"a"}
        await registry.set_alias("b", "next", None)  # loads it first
        assert "b" in resident(registry)


async def test_a_version_that_left_is_freed_without_the_collector() -> None:
    async with serving("ab", places=1) as (registry, _):
        await ask(registry, "a")
        gone = weakref.ref(registry._versions.defaults["a"])
        gc.disable()
        try:
            await asyncio.sleep(10)
            await ask(registry, "b")
            await asyncio.sleep(1)
            assert gone() is None
        finally:
            gc.enable()


async def test_requests_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "_MOST_WAITING", 3)
    async with serving() as (registry, _):
        results = await asyncio.gather(
            *(ask(registry, "a") for _ in range(5)), return_exceptions=True
        )
    refused = [result for result in results if isinstance(result, ServiceError)]
    assert len(refused) == 2
    assert all(isinstance(result, OverloadedError) for result in refused)


def model(name: str, used: int = 0, until: float = 0, idle: bool = True, held: bool = False) -> Any:
    return Resident(name, used, until, idle, held)


@pytest.mark.parametrize(
    ("residents", "waited", "leaves"),
    [
        ([], 9, None),
        ([model("a", 2), model("b", 1)], 0, "b"),
        ([model("a", 2), model("b", 1, until=11)], 0, "a"),
        ([model("a", until=11)], 9, None),
        ([model("a", idle=False)], 0.5, None),
        ([model("a", idle=False)], 1, "a"),
        ([model("a", idle=False, until=3), model("b", idle=False, until=2)], 1, "b"),
        ([model("a", idle=False, held=True)], 9, None),
        ([model("a", 9, idle=True), model("b", 1, idle=False)], 9, "a"),
    ],
)
def test_who_leaves(residents: Sequence[Resident], waited: float, leaves: str | None) -> None:
    assert next_to_evict(residents, 10, waited) == leaves
