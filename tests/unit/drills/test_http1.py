"""The drills' client sees every answer, its faults, and how a connection ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drills.http1 import ADDRESS, Answer, Connection, Ending, NoAnswerError, NotHttpError, connected

pytestmark = pytest.mark.looptime(False)


@asynccontextmanager
async def served(data: bytes) -> AsyncIterator[Connection]:
    """Connect to a server that sends these bytes and closes."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, ADDRESS, 0)
    async with server, connected(server.sockets[0].getsockname()[1]) as connection:
        yield connection


async def test_answers_are_read_one_after_the_other() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    async with served(data) as connection:
        answers = [await connection.answer() for _ in range(3)]
        assert [(one.status, one.body) for one in answers] == [
            (200, b"hi"),
            (204, b""),
            (200, b"abc"),
        ]
        assert await connection.ended(1) == (b"", Ending.CLOSED)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
async def test_an_answer_that_is_not_whole_is_none(data: bytes) -> None:
    async with served(data) as connection:
        with pytest.raises(NoAnswerError):
            await connection.answer()


async def test_what_is_no_response_is_told_apart() -> None:
    async with served(b"+PONG\r\n\r\n") as connection:
        with pytest.raises(NotHttpError):
            await connection.answer()


def refusal(**changes: object) -> Answer:
    problem = {"status": 400, "code": "malformed_request", "detail": "no", "request_id": "a"}
    headers = {"content-type": "application/problem+json", "x-request-id": "a"}
    return Answer(400, headers, json.dumps(problem | changes).encode())


def test_a_whole_problem_has_no_fault() -> None:
    assert refusal().fault() == ""


@pytest.mark.parametrize("changes", [{"status": 500}, {"code": ""}, {"request_id": "b"}])
def test_a_problem_that_lacks_something_has_a_fault(changes: dict[str, object]) -> None:
    assert refusal(**changes).fault()


def test_plain_text_is_no_problem() -> None:
    assert Answer(400, {"content-type": "text/plain"}, b"Invalid HTTP").fault()
