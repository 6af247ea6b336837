"""Requests for names that no model has."""

import asyncio

import pytest
from fakes import ShelfLoader, ShelfRepository

from service.errors import (
    ModelNotFoundError,
    ModelNotReadyError,
)
from service.registry.registry import Registry
from service.registry.wanted import RegistryOptions
from service.tasks import Task
from tests.sentences import sentence


async def test_a_flood_of_unknown_names_reads_the_repository_once_in_five_seconds() -> None:
    repository = ShelfRepository({"a": [1]})
    registry = Registry(repository, ShelfLoader(), RegistryOptions("cpu"))
    registry.start()
    await asyncio.sleep(1.5)
    readings = repository.readings
    for _ in range(20):
        for _ in range(50):
            with pytest.raises(ModelNotFoundError):
                registry.find(Task.CLASSIFY, "text", "nobody", None)
        await asyncio.sleep(1)
    assert repository.readings - readings <= 5
    repository.shelf["new"] = [1]
    repository.is_gone = True  # an unknown name stays the caller's fault
    await asyncio.sleep(6)
    for _ in range(2):
        with pytest.raises(ModelNotFoundError):
            registry.find(Task.CLASSIFY, "text", "new", None)
        await asyncio.sleep(6)
    repository.is_gone = False
    with pytest.raises(ModelNotFoundError):
        registry.find(Task.CLASSIFY, "text", "new", None)
    await asyncio.sleep(1)
    with pytest.raises(ModelNotReadyError, check=sentence):
        registry.find(Task.CLASSIFY, "text", "new", None)
    await registry.stop(0)
