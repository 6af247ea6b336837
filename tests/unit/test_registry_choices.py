"""Which version of a model serves, and which model answers a request that names none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fakes import CountingFamily, ShelfLoader, ShelfRepository
from prometheus_client import REGISTRY

from service.api import ApiContext, Lifecycle, build_api
from service.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
    ServiceError,
)
from service.registry.registry import Registry
from service.registry.wanted import RegistryOptions
from service.repository.repository import PrecisionNotFoundError
from service.tasks import Task
from tests.sentences import sentence


@contextlib.asynccontextmanager
async def serving(
    shelf: dict[str, list[int]], loader: ShelfLoader | None = None, **options: Any
) -> AsyncIterator[tuple[Registry, ShelfRepository]]:
    repository = ShelfRepository(shelf)
    registry = Registry(repository, loader or ShelfLoader(), RegistryOptions("cpu", **options))
    registry.start()
    await asyncio.sleep(1.5 * sum(map(len, shelf.values())))
    yield registry, repository
    await registry.stop(grace=0)


def default(registry: Registry, modality: str = "text") -> str | type[ServiceError]:
    """Return which model a request gets that names none, or why it gets none."""
    try:
        return registry.find(Task.CLASSIFY, modality, None, None).model.name
    except ServiceError as error:
        return type(error)


def states(registry: Registry) -> dict[tuple[str, int | None], str]:
    return {(s.model, s.version): s.state.value for s in registry.statuses()}


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_loading_another_model_moves_no_default() -> None:
    async with serving({"m": [1]}) as (registry, repository):
        repository.shelf |= {"a": [1], "z": [1]}
        for model in ("a", "z"):
            await registry.load(model)
            assert default(registry) == "m"
        assert registry.status("m")[0].default_for == ("text",)


async def test_a_default_that_is_unloaded_or_fails_is_named_and_not_replaced() -> None:
    loader = ShelfLoader(failing={("m", 1)})
    async with serving({"m": [1]}, loader) as (registry, repository):
        repository.shelf["a"] = [1]
        await registry.load("a")
        with pytest.raises(ModelNotReadyError, check=sentence):
            registry.find(Task.CLASSIFY, "text", None, None)
        loader.failing.clear()
        await registry.load("m")
        assert default(registry) == "m"
        await registry.unload("m")
        assert registry.not_ready() == {}
        del repository.shelf["m"]
        with pytest.raises(ModelNotReadyError, check=sentence):
            registry.find(Task.CLASSIFY, "text", None, None)


async def test_of_several_none_is_the_default_whatever_becomes_of_them() -> None:
    loader = ShelfLoader(failing={("b", 1)})
    async with serving({"a": [1], "b": [1]}, loader) as (registry, _):
        with pytest.raises(ModelRequiredError, check=sentence):
            registry.find(Task.CLASSIFY, "text", None, None)
        await registry.unload("a")
        assert default(registry) is ModelRequiredError
        await registry.load("a")
        assert default(registry) is ModelRequiredError


async def test_a_candidate_counts_before_it_is_loaded() -> None:
    registry = Registry(
        ShelfRepository({"a": [1], "b": [1]}), ShelfLoader(), RegistryOptions("cpu")
    )
    registry.start()
    assert default(registry) is ModelNotReadyError
    await asyncio.sleep(1.5)
    assert states(registry) == {("a", 1): "ready", ("b", 1): "loading"}
    assert default(registry) is ModelRequiredError
    await registry.stop(0)


async def test_what_no_model_could_do_goes_to_the_first_that_is_loaded_for_it() -> None:
    families = {"pictures": CountingFamily(frozenset({"image"}))}
    families["more"] = families["pictures"]
    async with serving({"texts": [1]}, ShelfLoader(families=families)) as (registry, repository):
        assert default(registry, "image") is ModelNotFoundError
        repository.shelf |= {"pictures": [1], "more": [1]}
        for model in ("pictures", "more"):
            await registry.load(model)
            assert default(registry, "image") == "pictures"


async def test_a_model_of_two_modalities_and_one_of_one_of_them() -> None:
    families = {"both": CountingFamily(frozenset({"text", "image"}))}
    shelf = {"both": [1], "texts": [1]}
    async with serving(shelf, ShelfLoader(families=families)) as (registry, _):
        assert default(registry) is ModelRequiredError
        assert default(registry, "image") == "both"
        assert registry.status("both")[0].default_for == ("image",)


async def test_a_configured_default_that_is_missing_is_not_ready() -> None:
    options = {"models": ["b"], "defaults": {"classify.text": "a"}}
    async with serving({"a": [1], "b": [1]}, **options) as (registry, _):
        assert registry.not_ready() == {"a": "it is a default, but not among the models to load"}
        assert told("model_ready", model="a") == 0
        assert default(registry) is ModelNotReadyError
        await registry.load("a")
        assert (registry.not_ready(), default(registry)) == ({}, "a")
        await registry.unload("a")
        assert registry.not_ready() == {"a": "it is a default, but was unloaded"}
        assert told("model_ready", model="a") == 0


async def test_a_configured_default_that_cannot_do_it_is_not_ready() -> None:
    async with serving({"a": [1]}, defaults={"classify.image": "a"}) as (registry, _):
        reason = "it is the default to classify images, which it cannot do"
        assert registry.not_ready() == {"a": reason}


async def test_no_model_is_ready_yet_is_said_only_while_it_is_so() -> None:
    loader = ShelfLoader(failing={("a", 1)})
    async with serving({"a": [1]}, loader) as (registry, _):
        with pytest.raises(ModelNotFoundError, check=sentence):
            registry.find(Task.DETECT, "image", None, None)
        with pytest.raises(ModelNotReadyError, check=sentence):
            registry.find(Task.CLASSIFY, "text", None, None)


async def test_a_refused_newest_version_falls_back_at_the_start_and_says_so() -> None:
    loader = ShelfLoader(failing={("fallen", 3)}, crashing={("fallen", 2)})
    async with serving({"fallen": [1, 2, 3]}, loader) as (registry, _):
        assert states(registry) == {
            ("fallen", 1): "ready", ("fallen", 2): "failed", ("fallen", 3): "failed"
        }  # fmt: skip
        one, _, three = registry.status("fallen")
        assert (one.refused_version, three.reason) == (3, "goldens deviate by 0.5")
        assert registry.not_ready() == {}
        assert told("model_fallback", model="fallen", version="1") == 1
        assert told("model_ready", model="fallen") == 1
        assert told("model_loads_total", model="fallen", result="failed") == 2
        loader.failing.clear()
        status = await registry.load("fallen")
        assert (status.version, status.refused_version) == (3, None)
        await asyncio.sleep(1)
        assert told("model_fallback", model="fallen", version="1") is None
        assert told("model_fallback", model="fallen", version="3") == 0


async def test_a_broken_manifest_of_the_newest_version_falls_back_too() -> None:
    repository = ShelfRepository({"a": [1, 2]}, broken={("a", 2)})
    registry = Registry(repository, ShelfLoader(), RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(3)
    assert states(registry) == {("a", 1): "ready", ("a", 2): "failed"}
    assert default(registry) == "a"
    await registry.stop(0)


async def test_a_pinned_or_named_version_does_not_fall_back() -> None:
    loader = ShelfLoader(failing={("a", 2)})
    async with serving({"a": [1, 2]}, loader, versions={"a": 2}) as (registry, _):
        assert states(registry) == {("a", 2): "failed"}
        assert registry.not_ready() == {"a": "goldens deviate by 0.5"}
        for doing in (registry.load("a"), registry.load("a", 2)):
            with pytest.raises(ModelLoadError):
                await doing
        assert default(registry) is ModelNotReadyError


async def test_a_version_that_serves_is_not_replaced_by_an_older_one() -> None:
    loader = ShelfLoader()
    async with serving({"a": [1, 2]}, loader) as (registry, repository):
        repository.shelf["a"] = [1, 2, 3, 4]
        loader.failing |= {("a", 3), ("a", 4)}
        with pytest.raises(ModelLoadError):
            await registry.load("a")
        assert states(registry)["a", 2] == "ready"
        assert states(registry).get(("a", 1)) is None
        loader.failing -= {("a", 3)}
        status = await registry.load("a")
        assert (status.version, status.refused_version) == (3, 4)


async def test_a_precision_that_a_caller_asks_for_in_vain_fails_no_version() -> None:
    class OnlyInFullPrecision(ShelfRepository):
        def open(self, model: str, version: int | None, precision: str | None, kind: str) -> Any:
            if precision is not None:
                raise PrecisionNotFoundError(f"{model}/{version} has no {precision} graphs")
            return super().open(model, version, precision, kind)

    repository = OnlyInFullPrecision({"a": [1, 2]})
    registry = Registry(repository, ShelfLoader(), RegistryOptions("cpu", models=[]))
    registry.start()
    with pytest.raises(PrecisionNotFoundError, check=sentence):
        await registry.load("a", precision="fp16")
    assert states(registry) == {}
    await registry.stop(0)
    wanted = RegistryOptions("cpu", precision="fp16")
    registry = Registry(repository, ShelfLoader(), wanted)
    registry.start()
    await asyncio.sleep(1)
    assert states(registry) == {("a", 1): "failed", ("a", 2): "failed"}
    await registry.stop(0)


async def test_the_last_version_is_told_when_none_loads() -> None:
    loader = ShelfLoader(failing={("a", 1), ("a", 2)})
    async with serving({"a": [1, 2]}, loader) as (registry, _):
        assert states(registry) == {("a", 1): "failed", ("a", 2): "failed"}
        assert registry.not_ready() == {"a": "goldens deviate by 0.5"}


async def test_a_load_tells_its_phase_and_how_long_it_has_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with serving({"slow": [1]}) as (registry, _):
        loading = asyncio.create_task(registry.load("slow"))
        await asyncio.sleep(0.5)
        (status,) = registry.status("slow")
        assert (status.state.value, status.phase) == ("ready", "warming_up")
        assert status.loading_seconds is not None
        labels = {"model": "slow", "version": "1", "phase": "warming_up"}
        assert told("model_loading_seconds", **labels) is not None
        await loading
        assert registry.status("slow")[0].phase is None
        assert told("model_loading_seconds", **labels) is None


async def test_a_long_load_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    class SlowLoader(ShelfLoader):
        async def load(self, files: Any, enter: Any) -> Any:
            await asyncio.sleep(100)
            return await super().load(files, enter)

    caplog.set_level("INFO")
    async with serving({"slow": [1]}, SlowLoader()):
        await asyncio.sleep(200)
    told = [record for record in caplog.records if record.message == "model still loading"]
    assert [vars(record)["phase"] for record in told] == ["reading"] * 3


async def test_a_folder_that_cannot_be_a_model_is_shown_as_failed_and_the_rest_serves() -> None:
    repository = ShelfRepository({"a": [1]}, unusable={"private": "it cannot be read: no"})
    registry = Registry(repository, ShelfLoader(), RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    assert states(registry) == {("a", 1): "ready", ("private", None): "failed"}
    assert registry.not_ready() == {}
    with pytest.raises(ModelNotReadyError, check=sentence):
        registry.find(Task.CLASSIFY, "text", "private", None)
    with pytest.raises(ModelLoadError, check=sentence):
        await registry.load("private")
    api = build_api(ApiContext(registry=registry, lifecycle=Lifecycle()))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        listed = (await client.get("/v1/models")).json()["models"]
        assert (listed[1]["model"], listed[1]["version"]) == ("private", None)
        assert listed[1]["reason"] == "it cannot be read: no"
        assert (await client.get("/v1/models/private")).json()["versions"] == [listed[1]]
        assert (await client.get("/v1/models/private/parity")).status_code == 200
    await registry.stop(0)


async def test_an_unreadable_model_that_is_wanted_is_not_ready_with_its_reason() -> None:
    repository = ShelfRepository({"a": [1]}, unusable={"private": "it cannot be read: no"})
    options = RegistryOptions("cpu", models=["private", "a"])
    registry = Registry(repository, ShelfLoader(), options)
    registry.start()
    await asyncio.sleep(1.5)
    assert registry.not_ready() == {"private": "it cannot be read: no"}
    assert states(registry)["a", 1] == "ready"
    await registry.stop(0)


async def test_a_request_without_a_model_is_refused_by_name_over_http() -> None:
    async with serving({"a": [1], "b": [1]}) as (registry, _):
        api = build_api(ApiContext(registry=registry, lifecycle=Lifecycle()))
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
            response = await client.post("/v1/classify", json={"text": "four"})
            assert (response.status_code, response.json()["code"]) == (422, "model_required")
            assert "a or b" in response.json()["detail"]
            named = await client.post("/v1/classify", json={"text": "four", "model": "b"})
            assert (named.status_code, named.json()["model"]) == (200, "b")
