import time

import pytest
from redis.asyncio.connection import Connection

from service.cache.link import Breaker, BreakerState, Link, LinkError, NameLookup
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.looptime(False)


def link_to(port: int, breaker: Breaker) -> Link:
    connection = Connection(host="127.0.0.1", port=port, protocol=2)
    names = NameLookup({"host": "127.0.0.1", "port": port})
    return Link(connection, names, breaker, "probe", (0.05, 1.0))


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(max_faults=2, cool_down=60.0, clock=time.monotonic)


async def test_it_says_whether_it_is_connected(redis_server: RedisServer, breaker: Breaker) -> None:
    link = link_to(redis_server.port, breaker)
    assert (link.is_ready, repr(link)) == (False, "<Link not connected>")
    await link.connect()
    assert (link.is_ready, repr(link)) == (True, "<Link ready>")
    await link.close()
    assert (link.is_ready, repr(link)) == (False, "<Link not connected>")


async def test_values_come_in_the_order_of_their_keys(
    redis_server: RedisServer, breaker: Breaker
) -> None:
    link = link_to(redis_server.port, breaker)
    await link.connect()
    assert await link.store([("a", b"1"), ("b", b"2")], [60_000, 60_000]) == 0
    assert await link.fetch(["b", "unknown", "a"]) == [b"2", None, b"1"]
    await link.close()


async def test_one_that_lost_its_connection_makes_another(
    redis_server: RedisServer, breaker: Breaker
) -> None:
    link = link_to(redis_server.port, breaker)
    await link.connect()
    await link.close()
    assert await link.fetch(["a"]) == [None]
    await link.close()


async def test_one_that_cannot_connect_says_so_and_its_faults_open_the_breaker(
    breaker: Breaker,
) -> None:
    link = link_to(free_port(), breaker)
    for _ in range(2):
        with pytest.raises(LinkError):
            await link.fetch(["a"])
    assert breaker.state is BreakerState.OPEN
