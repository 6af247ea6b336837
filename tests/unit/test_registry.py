"""Loading, swapping, draining and finding models, on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes import CountingFamily, ShelfLoader, ShelfRepository
from prometheus_client import REGISTRY

from service.errors import (
    ConflictError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
)
from service.registry.registry import Registry, RegistryOptions
from service.registry.status import ModelState
from service.requests.request import Request
from service.tasks import ClassifyItem, Task, Text
from tests.sentences import sentence

CPU = RegistryOptions("cpu")


@asynccontextmanager
async def serving(
    shelf: dict[str, list[int]],
    options: RegistryOptions = CPU,
    loader: ShelfLoader | None = None,
    **repository: Any,
) -> AsyncIterator[Registry]:
    registry = Registry(ShelfRepository(shelf, **repository), loader or ShelfLoader(), options)
    registry.start()
    await asyncio.sleep(1.5 * len(shelf))
    yield registry
    await registry.stop(grace=0)


async def ask(registry: Registry, model: str | None = None, text: str = "four") -> str:
    pipeline = registry.find(Task.CLASSIFY, "text", model, None)
    outcome = await pipeline.answer(ClassifyItem(Text(text)), Request())
    return outcome.answer.labels[0].name


def states(registry: Registry) -> dict[tuple[str, int], str]:
    return {(s.model, s.version): s.state.value for s in registry.statuses()}


async def test_every_model_of_the_repository_is_loaded_in_its_newest_version() -> None:
    async with serving({"a": [1, 2], "b": [7]}) as registry:
        assert states(registry) == {("a", 2): "ready", ("b", 7): "ready"}
        assert registry.not_ready() == {}
        assert await ask(registry, "b") == "4"


async def test_before_the_first_load_nothing_is_ready() -> None:
    registry = Registry(ShelfRepository({"a": [1]}), ShelfLoader(), CPU)
    registry.start()
    assert registry.not_ready() == {"a": "not loaded yet"}
    with pytest.raises(ModelNotReadyError, check=sentence):
        registry.find(Task.CLASSIFY, "text", "a", None)
    with pytest.raises(ModelNotReadyError, check=sentence):
        registry.find(Task.CLASSIFY, "text", None, None)
    await asyncio.sleep(0.5)
    assert states(registry) == {("a", 1): "loading"}
    await registry.stop(0)


async def test_only_the_wanted_models_are_loaded() -> None:
    options = RegistryOptions("cpu", models=["b"], versions={"b": 3})
    async with serving({"a": [1], "b": [3, 4]}, options) as registry:
        assert states(registry) == {("b", 3): "ready"}
        with pytest.raises(ModelNotReadyError, check=sentence):
            registry.find(Task.CLASSIFY, "text", "a", None)


@pytest.mark.parametrize(
    "options",
    [RegistryOptions("cpu", models=["x"]), RegistryOptions("cpu", defaults={"classify.text": "x"})],
)
async def test_a_wanted_model_that_is_not_there_refuses_the_start(options) -> None:
    registry = Registry(ShelfRepository({"a": [1]}), ShelfLoader(), options)
    with pytest.raises(ModelNotFoundError, check=sentence):
        registry.start()


async def test_one_model_that_fails_is_told_and_does_not_stop_the_others() -> None:
    loader = ShelfLoader(failing={("a", 1)})
    async with serving({"a": [1], "b": [1]}, loader=loader) as registry:
        assert registry.not_ready() == {"a": "goldens deviate by 0.5"}
        assert states(registry) == {("a", 1): "failed", ("b", 1): "ready"}
        assert registry.status("a")[0].reason == "goldens deviate by 0.5"
        with pytest.raises(ModelNotReadyError, check=sentence):
            registry.find(Task.CLASSIFY, "text", "a", None)


async def test_a_broken_manifest_is_told_too() -> None:
    async with serving({"a": [1], "b": [1]}, broken={("a", 1)}) as registry:
        assert registry.not_ready() == {"a": "model.toml is broken"}
        assert await ask(registry) == "4"


async def test_the_only_model_that_can_is_the_default_and_of_several_the_one_configured() -> None:
    async with serving({"a": [1]}) as registry:
        assert registry.find(Task.CLASSIFY, "text", None, None).model.name == "a"
        assert registry.status("a")[0].default_for == ("text",)
    shelf = {"a": [1], "b": [1]}
    async with serving(shelf) as registry:
        with pytest.raises(ModelRequiredError, check=sentence):
            registry.find(Task.CLASSIFY, "text", None, None)
        assert registry.status("a")[0].default_for == ()
    options = RegistryOptions("cpu", defaults={"classify.text": "b"})
    async with serving(shelf, options) as registry:
        assert registry.find(Task.CLASSIFY, "text", None, None).model.name == "b"


async def test_a_model_is_found_only_for_what_it_can_do() -> None:
    loader = ShelfLoader(families={"pictures": CountingFamily(frozenset({"image"}))})
    async with serving({"pictures": [1], "texts": [1]}, loader=loader) as registry:
        assert registry.find(Task.CLASSIFY, "image", None, None).model.name == "pictures"
        assert registry.find(Task.CLASSIFY, "text", None, 1).model.name == "texts"
        for task, modality, model, version in [
            (Task.CLASSIFY, "text", "pictures", None),
            (Task.TRANSLATE, "text", "texts", None),
            (Task.CLASSIFY, "text", "texts", 2),
            (Task.DETECT, "image", None, None),
            (Task.CLASSIFY, "text", "nobody", None),
        ]:
            with pytest.raises(ModelNotFoundError, check=sentence):
                registry.find(task, modality, model, version)


async def test_a_swap_loses_no_request_and_closes_the_old_version() -> None:
    loader = ShelfLoader()
    options = RegistryOptions("cpu", versions={"a": 1})
    async with serving({"a": [1, 2]}, options, loader) as registry:
        running = asyncio.create_task(ask(registry))
        await asyncio.sleep(0.01)
        swap = asyncio.create_task(registry.load("a", version=2))
        during = [asyncio.create_task(ask(registry)) for _ in range(3)]
        status = await swap
        late = asyncio.create_task(ask(registry))
        assert (status.version, status.state) == (2, ModelState.READY)
        assert states(registry)["a", 1] == "draining"
        assert await asyncio.gather(running, *during, late) == ["4"] * 5
        await asyncio.sleep(0.2)
        assert states(registry) == {("a", 2): "ready"}
    assert loader.closed[0] == ("a", 1)


async def test_a_failed_swap_leaves_the_old_version_serving() -> None:
    options = RegistryOptions("cpu", versions={"a": 1})
    loader = ShelfLoader(failing={("a", 2)})
    async with serving({"a": [1, 2]}, options, loader) as registry:
        with pytest.raises(ModelLoadError):
            await registry.load("a", version=2)
        assert states(registry) == {("a", 1): "ready", ("a", 2): "failed"}
        assert registry.not_ready() == {}
        assert await ask(registry) == "4"


async def test_a_load_that_a_bug_ends_is_a_failed_load_and_the_next_model_is_loaded() -> None:
    loader = ShelfLoader(crashing={("a", 1)})
    async with serving({"a": [1], "b": [1]}, loader=loader) as registry:
        assert states(registry) == {("a", 1): "failed", ("b", 1): "ready"}
        assert registry.not_ready() == {"a": "a/1: a bug: no such argument"}


async def test_a_failed_reload_of_the_same_version_says_so_and_serves_on() -> None:
    loader = ShelfLoader()
    async with serving({"a": [1]}, loader=loader) as registry:
        loader.failing.add(("a", 1))
        with pytest.raises(ModelLoadError):
            await registry.load("a")
        assert states(registry) == {("a", 1): "ready"}
        assert registry.status("a")[0].reason == "goldens deviate by 0.5"
        assert await ask(registry) == "4"


async def test_a_reload_of_the_same_version_stays_ready_throughout() -> None:
    async with serving({"a": [1]}) as registry:
        reload = asyncio.create_task(registry.load("a"))
        seen = set()
        while not reload.done():
            seen.add(states(registry)["a", 1])
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.2)
        assert seen | {states(registry)["a", 1]} == {"ready"}


async def test_a_second_load_at_the_same_time_is_a_conflict() -> None:
    async with serving({"a": [1]}) as registry:
        first = asyncio.create_task(registry.load("a"))
        await asyncio.sleep(0)
        with pytest.raises(ConflictError, check=sentence):
            await registry.load("a")
        await first


async def test_unloading_finishes_what_was_accepted() -> None:
    async with serving({"a": [1], "b": [1]}) as registry:
        running = asyncio.create_task(ask(registry, "a"))
        await asyncio.sleep(0.01)
        unloading = asyncio.create_task(registry.unload("a"))
        await asyncio.sleep(0.01)
        assert states(registry)["a", 1] == "draining"
        with pytest.raises(ModelNotReadyError):
            registry.find(Task.CLASSIFY, "text", "a", None)
        assert await running == "4"
        await unloading
        assert states(registry) == {("b", 1): "ready"}
        assert registry.not_ready() == {}


async def test_what_is_not_there_cannot_be_loaded_or_unloaded() -> None:
    async with serving({"a": [1]}) as registry:
        for call in (registry.load("x"), registry.unload("x"), registry.load("a", version=9)):
            with pytest.raises(ModelNotFoundError):
                await call


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_readiness_is_told_for_every_wanted_model_until_it_is_unloaded() -> None:
    shelf = {"told": [1], "refused": [1]}
    async with serving(shelf, loader=ShelfLoader(failing={("refused", 1)})) as registry:
        assert told("model_ready", model="told") == 1
        assert told("model_ready", model="refused") == 0
        await registry.unload("told")
        assert told("model_ready", model="told") is None


async def test_a_failed_reload_leaves_a_model_ready_and_is_counted() -> None:
    loader = ShelfLoader()
    async with serving({"kept": [1]}, loader=loader) as registry:
        loader.failing.add(("kept", 1))
        with pytest.raises(ModelLoadError):
            await registry.load("kept")
        assert told("model_ready", model="kept") == 1
        assert told("model_loads_total", model="kept", result="failed") == 1


@pytest.mark.parametrize(("overridden", "limit"), [(None, 256), (7, 7)])
async def test_the_operators_queue_limit_is_told_in_place_of_the_manifests(
    overridden: int | None, limit: int
) -> None:
    async with serving({"queue": [1]}, RegistryOptions("cpu", max_queue_size=overridden)):
        assert told("model_queue_limit", model="queue", version="1") == limit


async def test_what_a_version_is_judged_by_goes_with_it() -> None:
    names = ("model_queue_limit", "model_golden_tolerance", "model_load_seconds")
    options = RegistryOptions("cpu", versions={"judged": 1})
    async with serving({"judged": [1, 2]}, options) as registry:
        assert None not in [told(name, model="judged", version="1") for name in names]
        await registry.load("judged", version=2)
        await asyncio.sleep(0.2)
        assert {told(name, model="judged", version="1") for name in names} == {None}
        assert None not in [told(name, model="judged", version="2") for name in names]


async def test_the_series_of_a_version_that_is_gone_go_with_it() -> None:
    def series(version: str) -> float | None:
        return told("model_state", model="gone", version=version, state="ready")

    async with serving({"gone": [1, 2]}, RegistryOptions("cpu", versions={"gone": 1})) as registry:
        assert series("1") == 1
        await registry.load("gone", version=2)
        await asyncio.sleep(0.2)
        assert (series("1"), series("2")) == (None, 1)
        statistics = registry.status("gone")[0].statistics
    assert statistics["default"]["pending"] == 0


async def test_an_unload_cancels_a_load_that_lasts() -> None:
    class Lasting(ShelfLoader):
        async def load(self, *_: Any) -> Any:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    registry = Registry(ShelfRepository({"a": [1, 2]}), Lasting(), RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1)
    assert states(registry) == {("a", 2): "loading"}
    await registry.unload("a")
    await asyncio.sleep(0.01)
    assert states(registry) == {}
    assert registry.not_ready() == {}
    with pytest.raises(ModelNotReadyError, check=sentence):
        await registry.unload("a")
    await registry.stop(0)


async def test_an_unload_says_so_if_a_run_does_not_end() -> None:
    async with serving({"a": [1]}) as registry:
        (loaded,) = registry._serving.values()
        (batcher,) = loaded.pipeline.engines.values()

        async def stop(grace: float) -> int:
            return 2

        batcher.stop, stopped = stop, batcher.stop  # type: ignore[method-assign]
        with pytest.raises(ConflictError, check=sentence):
            await registry.unload("a")
        await stopped(0)
        assert registry.not_ready() == {}
