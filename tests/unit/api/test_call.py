"""How a request's id, body, deadline and client are looked after, on a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.api.context import ApiContext, Lifecycle
from service.api.errors import MalformedRequestError, RequestTimeoutError
from service.api.http_request import WHOLE_BODY, HttpRequest
from service.cache.responses import CacheMode
from service.errors import DeadlineExceededError, LimitExceededError, OverloadedError
from service.requests.admission import ApiLimits
from tests.unit.api.fakes import FakeRegistry

LEFT: Message = {"type": "http.disconnect"}


def chunk(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def receiving(*messages: Message, every: float = 0.0) -> Callable[[], Awaitable[Message]]:
    """Return a receive that hands out these messages, one after each pause, then never again."""
    waiting = list(messages)

    async def receive() -> Message:
        await asyncio.sleep(every)
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


async def nothing(message: Message) -> None:
    """Discard a message."""


def call(
    context: ApiContext,
    receive: Callable[[], Awaitable[Message]] | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> HttpRequest:
    return HttpRequest(
        {"type": "http", "headers": list(headers)}, receive or receiving(), nothing, context
    )


async def test_a_body_is_put_together_from_its_chunks(context: ApiContext) -> None:
    receive = receiving(chunk(b"ab"), chunk(b""), chunk(b"c", more=False))
    assert await call(context, receive).read_body() == b"abc"


async def test_a_body_as_long_as_the_limit_is_read(context: ApiContext) -> None:
    most = context.limits.max_body_bytes
    receive = receiving(chunk(b"x" * (most - 1)), chunk(b"x", more=False))
    assert len(await call(context, receive).read_body()) == most


async def test_an_oversized_body_is_read_to_its_end_so_that_the_connection_stays_of_use(
    context: ApiContext,
) -> None:
    half = b"x" * (context.limits.max_body_bytes // 2)
    one = call(context, receiving(*[chunk(half)] * 4, chunk(b"", more=False)))
    with pytest.raises(LimitExceededError):
        await one.read_body()
    assert not one.must_close


@pytest.fixture
def crowded(registry: FakeRegistry) -> ApiContext:
    """Has room for two bodies of the longest, less a little."""
    limits = ApiLimits(max_body_bytes=100_000, max_bodies_bytes=199_000)
    return ApiContext(registry, Lifecycle(), limits)


def half_come(size: int) -> Callable[[], Awaitable[Message]]:
    """Half of a body, and then nothing for a second."""
    half = b"x" * (size // 2)
    return receiving(chunk(half), chunk(half, more=False), every=1.0)


async def test_a_large_body_that_finds_no_room_is_refused_and_the_others_are_read(
    crowded: ApiContext,
) -> None:
    calls = [call(crowded, half_come(100_000)) for _ in range(3)]
    bodies = await asyncio.gather(*(one.read_body() for one in calls), return_exceptions=True)
    assert [len(body) for body in bodies if isinstance(body, bytes)] == [100_000]
    refusals = [body for body in bodies if isinstance(body, OverloadedError)]
    assert [refusal.retry_after for refusal in refusals] == [1.0, 1.0]
    assert not any(one.must_close for one in calls)
    assert crowded.bodies.held == 100_000


async def test_a_small_body_needs_no_room(crowded: ApiContext) -> None:
    assert crowded.bodies.take(199_000, 199_000)
    body = b"x" * 16_384
    assert await call(crowded, receiving(chunk(body, more=False))).read_body() == body
    with pytest.raises(OverloadedError):
        await call(crowded, receiving(chunk(body + b"x", more=False))).read_body()


async def test_the_room_of_a_body_is_free_when_its_request_has_ended(
    crowded: ApiContext,
) -> None:
    one = call(crowded, half_come(100_000))
    await one.read_body()
    one.release_body()
    one.release_body()
    assert crowded.bodies.held == 0


async def test_a_body_that_is_over_the_limit_keeps_no_room(crowded: ApiContext) -> None:
    one = call(crowded, receiving(chunk(b"x" * 60_000), chunk(b"x" * 60_000, more=False)))
    with pytest.raises(LimitExceededError):
        await one.read_body()
    one.release_body()
    assert crowded.bodies.held == 0


async def test_an_endless_body_is_given_up(context: ApiContext) -> None:
    whole = b"x" * context.limits.max_body_bytes
    one = call(context, receiving(*[chunk(whole)] * 100))
    with pytest.raises(LimitExceededError):
        await one.read_body()
    assert one.must_close


@pytest.mark.parametrize(
    ("length", "closes"), [(100_001, False), (400_000, False), (400_001, True)]
)
async def test_a_body_announced_as_too_long_is_refused_unread(
    context: ApiContext, length: int, closes: bool
) -> None:
    one = call(context, headers=[(b"content-length", b"%d" % length)])
    with pytest.raises(LimitExceededError):
        one.check()
    assert one.must_close is closes


async def test_a_body_that_trickles_in_is_given_up_at_the_deadline(
    context: ApiContext, looptime: Any
) -> None:
    one = call(context, receiving(*[chunk(b"x")] * 100, every=1.0))
    with pytest.raises(RequestTimeoutError):
        await one.read_body()
    assert looptime == context.limits.request_timeout_seconds
    assert one.must_close


async def test_a_body_that_is_there_is_read_without_a_timer(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = call(context, receiving(chunk(b"abc", more=False)))
    one.scope[WHOLE_BODY] = True
    monkeypatch.setattr(one, "_until_cut", None)
    assert await one.read_body() == b"abc"


async def test_a_client_who_leaves_in_the_middle_of_the_body_is_noticed(
    context: ApiContext,
) -> None:
    with pytest.raises(ClientDisconnect):
        await call(context, receiving(chunk(b"x"), LEFT)).read_body()


@pytest.mark.parametrize(
    ("wish", "deadline"),
    [
        (b"1", 0.001),
        (b"500", 0.5),
        (b"0000000000000000000500", 0.5),
        (b"999999999", 120),
        (b"1000000001", 120),
        (b"9" * 400, 120),
        (b"9" * 5000, 120),
    ],
)
async def test_the_callers_timeout_becomes_one_deadline_within_the_longest(
    context: ApiContext, wish: bytes, deadline: float
) -> None:
    one = call(context, headers=[(b"x-request-timeout-ms", wish)])
    one.check()
    assert one.without_transport().deadline == pytest.approx(deadline)


@pytest.mark.parametrize("wish", [b"", b"0", b"-5", b"1.5", b"1e3", b"0000", b"\xb2", b"1 "])
async def test_a_timeout_that_is_no_number_is_malformed(context: ApiContext, wish: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="X-Request-Timeout-Ms"):
        call(context, headers=[(b"x-request-timeout-ms", wish)]).check()


async def test_a_length_that_is_no_number_is_malformed(context: ApiContext) -> None:
    with pytest.raises(MalformedRequestError):
        call(context, headers=[(b"content-length", b"-1")]).check()


@pytest.mark.parametrize(("wish", "priority"), [(b"-10", -10), (b"0", 0), (b"10", 10)])
async def test_a_priority_is_taken(context: ApiContext, wish: bytes, priority: int) -> None:
    assert (
        call(context, headers=[(b"x-request-priority", wish)]).without_transport().priority
        == priority
    )


@pytest.mark.parametrize("wish", [b"", b"11", b"-11", b"high"])
async def test_a_priority_that_is_none_is_malformed(context: ApiContext, wish: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="X-Request-Priority"):
        call(context, headers=[(b"x-request-priority", wish)]).without_transport()


@pytest.mark.parametrize(
    ("directive", "mode"),
    [
        (b"no-cache", CacheMode.REFRESH),
        (b"No-Store", CacheMode.BYPASS),
        (b"no-cache, no-store", CacheMode.BYPASS),
        (b"max-age=0, no-cache", CacheMode.REFRESH),
        (b"max-age=60", CacheMode.USE),
        (b"", CacheMode.USE),
    ],
)
async def test_cache_control_is_honoured(
    context: ApiContext, directive: bytes, mode: CacheMode
) -> None:
    assert call(context, headers=[(b"cache-control", directive)]).without_transport().cache is mode


@pytest.mark.parametrize("wish", [b"a", b"A-9._z", b"x" * 128])
async def test_a_sane_request_id_is_kept(context: ApiContext, wish: bytes) -> None:
    assert call(context, headers=[(b"x-request-id", wish)]).request_id == wish.decode()


@pytest.mark.parametrize("wish", [b"", b"x" * 129, b"a b", b"a\n", b'"', b"\xff", b"{}"])
async def test_any_other_request_id_is_replaced(context: ApiContext, wish: bytes) -> None:
    made = call(context, headers=[(b"x-request-id", wish)]).request_id
    assert len(made) == 32
    assert int(made, 16)


async def test_work_gives_its_result(context: ApiContext, looptime: Any) -> None:
    assert await call(context).while_connected(asyncio.sleep(5, "done")) == "done"
    assert looptime == 5


async def test_work_is_cancelled_when_the_client_leaves(context: ApiContext, looptime: Any) -> None:
    work = asyncio.get_running_loop().create_future()
    with pytest.raises(ClientDisconnect):
        await call(context, receiving(LEFT, every=2.0)).while_connected(work)
    assert work.cancelled()
    assert looptime == pytest.approx(2.2)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_a_client_sends_after_its_body_is_ignored(
    context: ApiContext, looptime: Any
) -> None:
    receive = receiving(chunk(b"", more=False), chunk(b"more"), LEFT, every=1.0)
    with pytest.raises(ClientDisconnect):
        await call(context, receive).while_connected(asyncio.Event().wait())
    assert looptime == pytest.approx(3.2)


async def test_work_that_forgets_the_deadline_is_cut_off(
    context: ApiContext, looptime: Any
) -> None:
    with pytest.raises(DeadlineExceededError):
        await call(context).while_connected(asyncio.Event().wait())
    assert looptime == pytest.approx(context.limits.request_timeout_seconds + 0.1)


async def test_who_cancels_from_outside_is_obeyed(context: ApiContext) -> None:
    task = asyncio.create_task(call(context).while_connected(asyncio.Event().wait()))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nobody_goes_on_watching_after_the_work(context: ApiContext) -> None:
    with pytest.raises(ZeroDivisionError):
        await call(context).while_connected(_failing())
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _failing() -> None:
    await asyncio.sleep(0.5)
    raise ZeroDivisionError
