"""What has ended is freed at once: no reference to itself is left for the garbage collector.

Each kind of request, refusal, disconnect and load runs with the collector off. After ten rounds
further ones must leave no objects. `GARBAGE_ROUNDS=200` in the environment is the long form.
"""

import asyncio
import gc
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextvars import Context

import pytest
import pytest_asyncio

from tests.integration.garbage.bench import STARTERS, Bench, bench
from tests.integration.garbage.kinds import (
    ANSWERS,
    DISCONNECTS,
    REFUSALS,
    VERSIONS,
)
from tests.integration.garbage.models import repository
from tests.integration.garbage.rounds import Round
from tests.integration.garbage.videos import VIDEOS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.looptime(False),  # there are real threads
]

ROUNDS = int(os.environ.get("GARBAGE_ROUNDS", "20"))
_WARM = 10
_LOOKS = 8
"""A cycle grows at each of them. What a thread is just doing does not, nor does a table that fills
up, such as a translator's bindings for each number of rows."""

_OF_LOOP = (asyncio.TimerHandle, Context)
"""Timers that were cancelled stay in the loop until they are half of all; they hold nothing."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(repository(tmp_path_factory.mktemp("repository"), STARTERS)) as running:
        assert not running.context.registry.not_ready()
        yield running


@pytest.fixture
def no_collector() -> Iterator[None]:
    logging.disable()  # pytest would keep the records
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


def tracked() -> Counter[type]:
    """Count the objects that the collector would look at, by their type."""
    return Counter(kind for kind in map(type, gc.get_objects()) if kind not in _OF_LOOP)


async def left_behind(service: Bench, once: Round, rounds: int, warm: int = _WARM) -> Counter[type]:
    """Return the objects that rounds leave, by their type; nothing if fewer than one a round."""
    for _ in range(warm):
        await once(service)
    await service.settled()
    grown = Counter[type]()
    for _ in range(_LOOKS):
        before = tracked()
        for _ in range(rounds):
            await once(service)
        await service.settled()
        grown = tracked()
        grown.subtract(before)
        if grown.total() < rounds:
            return Counter()
    return +grown


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", [*ANSWERS, *REFUSALS, *DISCONNECTS, *VIDEOS])
async def test_a_request_leaves_nothing_to_collect(service: Bench, kind: str) -> None:
    once = {**ANSWERS, **REFUSALS, **DISCONNECTS, **VIDEOS}[kind]
    assert not await left_behind(service, once, ROUNDS)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", VERSIONS)
async def test_a_version_that_is_replaced_leaves_nothing_to_collect(
    service: Bench, kind: str
) -> None:
    assert not await left_behind(service, VERSIONS[kind], max(2, ROUNDS // 10), warm=1)
