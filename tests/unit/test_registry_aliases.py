"""Several versions of a model at once: aliases, weights, and what is kept."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ShelfLoader, ShelfRepository

from service.errors import (
    ConflictError,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
)
from service.registry.aliases import Aliases, chosen, parse_weights
from service.registry.registry import Registry
from service.registry.wanted import RegistryOptions
from service.requests.request import Request
from service.tasks import ClassifyItem, Task, Text
from tests.sentences import sentence


@contextlib.asynccontextmanager
async def serving(
    aliases: dict[str, str] | None = None,
    loader: ShelfLoader | None = None,
    file: Path | None = None,
    **options: Any,
) -> AsyncIterator[Registry]:
    loader = loader or ShelfLoader()
    wanted = RegistryOptions("cpu", aliases=Aliases(aliases, file), **options)
    registry = Registry(ShelfRepository({"m": [1, 2, 3]}), loader, wanted)
    registry.start()
    await asyncio.sleep(6)
    yield registry
    await registry.stop(grace=0)


def version(registry: Registry, model: str = "m", number: int | None = None, key: str = "") -> int:
    return registry.find(Task.CLASSIFY, "text", model, number, key).model.version


def states(registry: Registry) -> dict[int | None, str]:
    return {status.version: status.state.value for status in registry.statuses()}


async def test_versions_that_aliases_name_serve_beside_the_newest() -> None:
    async with serving({"m@prod": "1", "m@canary": "1:50+2:50"}) as registry:
        assert states(registry) == {1: "ready", 2: "ready", 3: "ready"}
        assert version(registry) == 3
        assert version(registry, "m@prod") == 1
        assert version(registry, "m@2") == version(registry, number=2) == 2
        assert {version(registry, "m@canary") for _ in range(64)} == {1, 2}
        shares = {status.version: dict(status.aliases) for status in registry.statuses()}
        assert shares == {1: {"canary": 0.5, "prod": 1.0}, 2: {"canary": 0.5}, 3: {}}


@pytest.mark.parametrize(
    ("model", "number", "error"),
    [
        ("m@nobody", None, ModelNotFoundError),
        ("m@4", None, ModelNotFoundError),
        ("m@prod", 1, InvalidInputError),
        ("x@prod", None, ModelNotFoundError),
    ],
)
async def test_what_names_no_version_is_refused(
    model: str, number: int | None, error: type[Exception]
) -> None:
    async with serving({"m@prod": "1"}) as registry:
        with pytest.raises(error, check=sentence):
            version(registry, model, number)


async def test_the_default_is_divided_and_a_key_keeps_its_version() -> None:
    async with serving({"m@default": "1:90+3:10"}) as registry:
        assert states(registry) == {1: "ready", 3: "ready"}
        counts = Counter(version(registry, key=f"user {n}") for n in range(2000))
        assert 120 < counts[3] < 280
        before = {n: version(registry, key=f"user {n}") for n in range(200)}
        assert before == {n: version(registry, key=f"user {n}") for n in range(200)}
        await registry.set_alias("m", "default", {1: 50, 3: 50})
        after = {n: version(registry, key=f"user {n}") for n in range(200)}
        assert all(after[n] == 3 for n in before if before[n] == 3)


async def test_an_alias_that_moves_loses_no_request_and_unloads_what_nothing_names() -> None:
    loader = ShelfLoader()
    async with serving({"m@prod": "1"}, loader) as registry:
        pipeline = registry.find(Task.CLASSIFY, "text", "m@prod", None)
        running = asyncio.create_task(pipeline.answer(ClassifyItem(Text("four")), Request()))
        await asyncio.sleep(0)
        await registry.set_alias("m", "prod", {2: 1})
        assert version(registry, "m@prod") == 2
        assert (await running).answer.labels[0].name == "4"
        await asyncio.sleep(1)
        assert states(registry) == {2: "ready", 3: "ready"}
        await registry.set_alias("m", "prod", None)
        await asyncio.sleep(1)
        assert states(registry) == {3: "ready"}
    assert loader.closed[:2] == [("m", 1), ("m", 2)]


async def test_requests_see_the_old_alias_or_the_new_one() -> None:
    async with serving({"m@prod": "1"}) as registry:
        seen: list[int] = []

        async def ask() -> None:
            while True:
                seen.append(version(registry, "m@prod"))
                await asyncio.sleep(0.01)

        asking = asyncio.create_task(ask())
        await registry.set_alias("m", "prod", {2: 1})
        await asyncio.sleep(0.1)
        asking.cancel()
        assert seen == sorted(seen)
        assert set(seen) == {1, 2}


async def test_an_alias_of_a_version_that_fails_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    loader = ShelfLoader(failing={("m", 2)})
    async with serving({"m@prod": "1"}, loader, file) as registry:
        with pytest.raises(ModelLoadError, check=sentence):
            await registry.set_alias("m", "prod", {1: 50, 2: 50})
        with pytest.raises(ModelNotFoundError):
            await registry.set_alias("m", "prod", {9: 1})
        for alias, weights in (("2", {1: 1.0}), ("a b", {1: 1.0}), ("x", {1: 0.0}), ("x", {})):
            with pytest.raises(InvalidInputError):
                await registry.set_alias("m", alias, weights)
        assert dict(registry.aliases("m")) == {"prod": {1: 1.0}}
        assert version(registry, "m@prod") == 1
        assert not file.exists()


async def test_aliases_are_kept_in_the_state_file_which_wins(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "state.json"
    async with serving({"m@prod": "1"}, file=file) as registry:
        await registry.set_alias("m", "prod", {2: 1})
        await registry.set_alias("m", "default", {1: 95, 3: 5})
    async with serving({"m@prod": "1"}, file=file) as registry:
        assert version(registry, "m@prod") == 2
        assert dict(registry.aliases("m")["default"]) == {1: 95, 3: 5}
        assert states(registry) == {1: "ready", 2: "ready", 3: "ready"}
    file.write_text('{"aliases": {"m": {"prod": {"x": 1}}}}')
    with pytest.raises(InvalidInputError, check=sentence):
        Aliases({}, file)


async def test_a_load_follows_the_default_alias() -> None:
    async with serving({"m@default": "2"}) as registry:
        assert states(registry) == {2: "ready"}
        assert (await registry.load("m")).version == 2
        with pytest.raises(ConflictError, check=sentence):
            await registry.load("m", version=3)
        await registry.set_alias("m", "default", None)
        assert version(registry) == 2
        await registry.load("m")
        await asyncio.sleep(1)
        assert states(registry) == {3: "ready"}


async def test_a_newer_default_leaves_what_an_alias_names() -> None:
    async with serving({"m@prod": "2"}, versions={"m": 2}) as registry:
        assert states(registry) == {2: "ready"}
        await registry.load("m", version=3)
        await asyncio.sleep(1)
        assert states(registry) == {2: "ready", 3: "ready"}
        assert (version(registry), version(registry, "m@prod")) == (3, 2)
        await registry.load("m", version=2)
        await asyncio.sleep(1)
        assert states(registry) == {2: "ready"}


async def test_a_model_is_ready_once_the_versions_of_its_aliases_are() -> None:
    wanted = RegistryOptions("cpu", aliases=Aliases({"m@prod": "1"}))
    registry = Registry(ShelfRepository({"m": [1, 2]}), ShelfLoader(), wanted)
    registry.start()
    await asyncio.sleep(1.5)
    assert version(registry) == 2
    assert list(registry.not_ready()) == ["m"]
    await asyncio.sleep(1)
    assert (version(registry, "m@prod"), registry.not_ready()) == (1, {})
    await registry.stop(grace=0)


async def test_a_version_that_fails_at_start_leaves_the_others_all_requests() -> None:
    loader = ShelfLoader(failing={("m", 3)})
    async with serving({"m@default": "1:50+3:50", "m@next": "3"}, loader) as registry:
        assert {version(registry) for _ in range(32)} == {1}
        assert registry.not_ready() == {}
        with pytest.raises(ModelNotReadyError, check=sentence):
            version(registry, "m@next")


async def test_unloading_takes_all_versions_and_loading_brings_them_back() -> None:
    loader = ShelfLoader()
    async with serving({"m@prod": "1"}, loader) as registry:
        await registry.unload("m")
        assert sorted(loader.closed) == [("m", 1), ("m", 3)]
        with pytest.raises(ModelNotReadyError):
            version(registry, "m@prod")
        with pytest.raises(ModelNotReadyError):
            await registry.set_alias("m", "prod", {2: 1})
        await registry.load("m")
        assert (version(registry), version(registry, "m@prod")) == (3, 1)


async def test_one_change_of_a_model_at_a_time() -> None:
    async with serving({"m@prod": "1"}) as registry:
        moving = asyncio.create_task(registry.set_alias("m", "prod", {2: 1}))
        await asyncio.sleep(0.1)
        with pytest.raises(ConflictError, check=sentence):
            await registry.set_alias("m", "other", {1: 1})
        await registry.unload("m")
        with pytest.raises(ConflictError):
            await moving
        assert dict(registry.aliases("m")) == {"prod": {1: 1.0}}


@pytest.mark.parametrize("text", ["", "x", "1:", "1:x", "1:1+1:2", "0", "1:-1", "1:nan", "1:0"])
def test_what_is_no_weight_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_weights(text)


def test_without_a_key_chance_decides_by_the_weights() -> None:
    counts = Counter(chosen({1: 3.0, 2: 1.0}, "") for _ in range(4000))
    assert 700 < counts[2] < 1300
