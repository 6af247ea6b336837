"""What comes in one turn is done together, and nobody is left waiting."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from service.engine.preprocess import Coalescer

pytestmark = pytest.mark.looptime(False)  # there are real threads


@dataclass
class Doubler:
    """Doubles numbers; a negative one is wrong, 13 is a bug."""

    groups: list[list[int]] = field(default_factory=list)

    def __call__(self, values: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(values))
        if 13 in values:
            raise RuntimeError("a bug")
        return [ValueError("negative") if value < 0 else 2 * value for value in values]


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def all_of(gatherer: Coalescer[int, int], *values: int) -> list[int | BaseException]:
    return await asyncio.gather(*map(gatherer.run, values), return_exceptions=True)


async def test_what_comes_in_one_turn_is_done_together(threads: Executor) -> None:
    double = Doubler()
    assert await all_of(Coalescer(double, threads), 1, 2, 3) == [2, 4, 6]
    assert double.groups == [[1, 2, 3]]


async def test_a_value_that_comes_alone_needs_no_thread(threads: Executor) -> None:
    threads.shutdown()
    assert await Coalescer(Doubler(), threads).run(4) == 8


async def test_a_wrong_value_fails_alone(threads: Executor) -> None:
    answers = await all_of(Coalescer(Doubler(), threads), 1, -2, 3)
    assert [answers[0], answers[2]] == [2, 6]
    assert isinstance(answers[1], ValueError)


async def test_a_bug_is_told_to_everybody(threads: Executor) -> None:
    answers = await all_of(Coalescer(Doubler(), threads), 1, 13)
    assert [str(answer) for answer in answers] == ["a bug", "a bug"]


async def test_a_caller_who_leaves_costs_the_others_nothing(threads: Executor) -> None:
    gatherer = Coalescer(Doubler(), threads)
    callers = [asyncio.ensure_future(gatherer.run(value)) for value in (1, 2, 3)]
    await asyncio.sleep(0)
    callers[1].cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [answers[0], answers[2]] == [2, 6]


async def test_stopped_threads_leave_nobody_waiting(threads: Executor) -> None:
    threads.shutdown()
    answers = await asyncio.wait_for(all_of(Coalescer(Doubler(), threads), 1, 2), 5)
    assert all(isinstance(answer, RuntimeError) for answer in answers)
