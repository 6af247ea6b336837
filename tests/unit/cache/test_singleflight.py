"""Single-flight, on a virtual clock: `looptime` is the loop's own time, in seconds."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from service.cache.responses import SingleFlight
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    ModelNotReadyError,
    OverloadedError,
    ServiceError,
    ShuttingDownError,
)


class PreparedItem:
    """Takes 1 s a run, numbers its runs, and fails the chosen ones."""

    def __init__(self, *failures: Exception | None) -> None:
        self.started = 0
        self._failures = failures

    async def __call__(self) -> int:
        self.started += 1
        run = self.started
        await asyncio.sleep(1)
        if run <= len(self._failures) and (failure := self._failures[run - 1]) is not None:
            raise failure
        return run


@pytest.fixture
def flights() -> Iterator[SingleFlight[int]]:
    """Yield one that must have forgotten everything when the test is over."""
    flights = SingleFlight[int]()
    yield flights
    assert repr(flights) == "<SingleFlight 0 running, 0 waiting>"


def start(
    flights: SingleFlight[int],
    work: PreparedItem,
    count: int,
    key: str = "key",
    deadline: float | None = None,
) -> list[asyncio.Task[tuple[int, bool]]]:
    return [asyncio.create_task(flights.run(key, work, deadline)) for _ in range(count)]


async def test_identical_work_is_done_once(flights: SingleFlight[int], looptime) -> None:
    work = PreparedItem()
    answers = await asyncio.gather(*start(flights, work, 5))
    assert answers == [(1, False), *[(1, True)] * 4]
    assert work.started == 1
    assert looptime == 1


async def test_different_work_is_not_shared(flights: SingleFlight[int]) -> None:
    work = PreparedItem()
    tasks = start(flights, work, 1, "a") + start(flights, work, 1, "b")
    assert await asyncio.gather(*tasks) == [(1, False), (2, False)]


async def test_nothing_is_remembered_once_it_has_landed(flights: SingleFlight[int]) -> None:
    work = PreparedItem()
    assert await flights.run("key", work, None) == (1, False)
    assert await flights.run("key", work, None) == (2, False)


async def test_the_leader_computes_in_its_own_task(flights: SingleFlight[int]) -> None:
    async def who() -> int:
        return id(asyncio.current_task())

    before = asyncio.all_tasks()
    assert await flights.run("key", who, None) == (id(asyncio.current_task()), False)
    assert asyncio.all_tasks() == before


async def test_it_shows_who_waits(flights: SingleFlight[int]) -> None:
    tasks = start(flights, PreparedItem(), 3)
    await asyncio.sleep(0.5)
    assert repr(flights) == "<SingleFlight 1 running, 2 waiting>"
    await asyncio.gather(*tasks)


async def test_each_follower_keeps_its_own_deadline(flights: SingleFlight[int], looptime) -> None:
    work = PreparedItem()
    (leader,) = start(flights, work, 1)
    (hurried,) = start(flights, work, 1, deadline=0.25)
    (patient,) = start(flights, work, 1, deadline=2.0)
    with pytest.raises(DeadlineExceededError):
        await hurried
    assert looptime == 0.25
    assert await asyncio.gather(leader, patient) == [(1, False), (1, True)]
    assert work.started == 1


async def test_a_deadline_that_has_passed_ends_the_waiting_at_once(
    flights: SingleFlight[int], looptime
) -> None:
    (leader,) = start(flights, PreparedItem(), 1)
    await asyncio.sleep(0.5)
    with pytest.raises(DeadlineExceededError):
        await flights.run("key", PreparedItem(), 0.25)
    assert looptime == 0.5
    await leader


async def test_a_follower_who_leaves_affects_nobody(flights: SingleFlight[int]) -> None:
    leader, quitter, other = start(flights, PreparedItem(), 3)
    await asyncio.sleep(0.5)
    quitter.cancel()
    await asyncio.wait([quitter])
    assert quitter.cancelled()
    assert repr(flights) == "<SingleFlight 1 running, 1 waiting>"
    assert await asyncio.gather(leader, other) == [(1, False), (1, True)]


async def test_a_follower_who_leaves_in_the_moment_of_landing_affects_nobody(
    flights: SingleFlight[int],
) -> None:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await ready

    leader, quitter, other = (asyncio.create_task(flights.run("key", wait, None)) for _ in range(3))
    await asyncio.sleep(0)
    ready.set_result(7)  # the leader is woken first, and finds a follower that is going
    quitter.cancel()
    assert await asyncio.gather(leader, other) == [(7, False), (7, True)]
    await asyncio.wait([quitter])
    assert quitter.cancelled()


async def test_when_the_leader_leaves_a_follower_computes_for_the_rest(
    flights: SingleFlight[int], looptime
) -> None:
    work = PreparedItem()
    leader, heir, *others = start(flights, work, 4)
    await asyncio.sleep(0.5)
    leader.cancel()
    assert await asyncio.gather(heir, *others) == [(2, False), (2, True), (2, True)]
    assert work.started == 2
    assert looptime == 1.5


async def test_a_newcomer_follows_the_new_leader(flights: SingleFlight[int]) -> None:
    work = PreparedItem()
    leader, heir = start(flights, work, 2)
    await asyncio.sleep(0.5)
    leader.cancel()
    await asyncio.sleep(0.25)
    (newcomer,) = start(flights, work, 1)
    assert await asyncio.gather(heir, newcomer) == [(2, False), (2, True)]


async def test_a_leader_out_of_time_does_not_take_the_followers_with_it(
    flights: SingleFlight[int],
) -> None:
    work = PreparedItem(DeadlineExceededError("the leader's own"))
    leader, *followers = start(flights, work, 3)
    with pytest.raises(DeadlineExceededError):
        await leader
    assert await asyncio.gather(*followers) == [(2, False), (2, True)]


@pytest.mark.parametrize(
    "error", [ModelNotReadyError("replaced"), ShuttingDownError("the model was stopped")]
)
async def test_a_leader_whose_version_is_closed_does_not_take_the_followers_with_it(
    flights: SingleFlight[int], error: ServiceError
) -> None:
    leader, *followers = start(flights, PreparedItem(error), 3)
    with pytest.raises(type(error)):
        await leader
    assert await asyncio.gather(*followers) == [(2, False), (2, True)]


async def test_leaders_that_leave_one_after_the_other_end_with_the_last(
    flights: SingleFlight[int], looptime
) -> None:
    late = DeadlineExceededError("late")
    tasks = start(flights, PreparedItem(late, late, late), 3)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [DeadlineExceededError] * 3
    assert looptime == 3


async def test_an_heir_who_leaves_in_the_same_moment_passes_it_on(
    flights: SingleFlight[int],
) -> None:
    work = PreparedItem()
    leader, heir, next_heir = start(flights, work, 3)
    await asyncio.sleep(0.5)
    leader.cancel()
    await asyncio.sleep(0)  # the leader has handed over, the heir has not run yet
    heir.cancel()
    assert await next_heir == (2, False)
    assert heir.cancelled()
    assert work.started == 2


async def test_an_heir_who_left_just_before_is_passed_over(flights: SingleFlight[int]) -> None:
    work = PreparedItem()
    leader, quitter, heir = start(flights, work, 3)
    await asyncio.sleep(0.5)
    quitter.cancel()
    leader.cancel()
    assert await heir == (2, False)


async def test_everybody_leaves_at_once(flights: SingleFlight[int]) -> None:
    tasks = start(flights, PreparedItem(), 5)
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_an_heir_whose_deadline_passes_with_the_handing_over_passes_it_on(
    flights: SingleFlight[int],
) -> None:
    work = PreparedItem()
    (leader,) = start(flights, work, 1)
    (heir,) = start(flights, work, 1, deadline=0.5)
    (last,) = start(flights, work, 1)
    asyncio.get_running_loop().call_at(0.5, leader.cancel)
    results = await asyncio.gather(heir, last, return_exceptions=True)
    assert isinstance(results[0], DeadlineExceededError) or results[0] == (2, False)
    assert results[1] in [(2, False), (2, True)]


@pytest.mark.parametrize(
    "error", [InvalidInputError("bad"), InferenceError("broken"), OverloadedError("full", 2.5)]
)
async def test_a_failure_that_would_meet_everybody_reaches_everybody(
    flights: SingleFlight[int], error: ServiceError, looptime
) -> None:
    work = PreparedItem(error)
    results = await asyncio.gather(*start(flights, work, 3), return_exceptions=True)
    assert [type(result) for result in results] == [type(error)] * 3
    assert [str(result) for result in results] == [str(error)] * 3
    assert work.started == 1
    assert looptime == 1


async def test_each_follower_gets_an_error_of_its_own_with_all_it_says(
    flights: SingleFlight[int],
) -> None:
    error = OverloadedError("full", 2.5)
    results = await asyncio.gather(*start(flights, PreparedItem(error), 3), return_exceptions=True)
    assert len({id(result) for result in results}) == 3
    assert [getattr(result, "retry_after", None) for result in results] == [2.5] * 3
    assert [getattr(result, "__cause__", None) for result in results[1:]] == [error] * 2


async def test_an_unexpected_error_reaches_everybody_too(flights: SingleFlight[int]) -> None:
    results = await asyncio.gather(
        *start(flights, PreparedItem(KeyError("bug")), 3), return_exceptions=True
    )
    assert [repr(result) for result in results] == ["KeyError('bug')"] * 3


async def test_a_failure_that_nobody_waits_for_is_not_reported_as_lost(
    flights: SingleFlight[int],
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    leader, quitter = start(flights, PreparedItem(InferenceError("broken")), 2)
    asyncio.get_running_loop().call_at(1.0, quitter.cancel)
    with pytest.raises(InferenceError):
        await leader
    await asyncio.wait([quitter])
    if not quitter.cancelled():
        assert isinstance(quitter.exception(), InferenceError)
    del leader, quitter
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


async def test_work_after_a_failure_starts_anew(flights: SingleFlight[int]) -> None:
    work = PreparedItem(InferenceError("broken"))
    with pytest.raises(InferenceError):
        await flights.run("key", work, None)
    assert await flights.run("key", work, None) == (2, False)


async def test_a_storm_of_leaving_callers_leaves_nobody_waiting(
    flights: SingleFlight[int],
) -> None:
    work = PreparedItem()
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[tuple[int, bool]]] = []
    for number in range(200):
        (task,) = start(flights, work, 1, deadline=loop.time() + 0.3 + number % 7 * 0.4)
        tasks.append(task)
        if number % 3 == 0:
            loop.call_later(number % 11 * 0.1, task.cancel)
        await asyncio.sleep(0.013)
    done, waiting = await asyncio.wait(tasks, timeout=20)
    assert not waiting
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, DeadlineExceededError)
    assert sum(not task.cancelled() and task.exception() is None for task in done) > 50
