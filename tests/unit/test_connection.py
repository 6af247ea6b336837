"""How one answer is written to its connection."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from service.api.exchange import Cycle, Flow

DATE = (b"date", b"today")
LENGTH = (b"content-length", b"4")
HEAD = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 4\r\n"


class Wire:
    """A transport that records its writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def resume_reading(self) -> None:
        """Nothing is read."""


class Answering:
    """A cycle over a wire, and how often it was ended."""

    def __init__(self, method: str = "POST", **given: Any) -> None:
        self.wire = Wire()
        self.ended = 0
        transport = cast("asyncio.Transport", self.wire)
        log = logging.getLogger(__name__)
        self.flow = Flow(transport, ())
        known: dict[str, Any] = {
            "default_headers": [DATE],
            "expect_100_continue": False,
            "keep_alive": True,
        }
        self.cycle = Cycle(
            scope=cast("Any", {"type": "http", "method": method}),
            transport=transport,
            flow=self.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            message_event=asyncio.Event(),
            on_response=self._end,
            **(known | given),
        )

    def _end(self) -> None:
        self.ended += 1

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await self.cycle.send(start)

    async def body(self, *parts: bytes) -> None:
        for index, part in enumerate(parts):
            more = index < len(parts) - 1
            await self.cycle.send({"type": "http.response.body", "body": part, "more_body": more})


@pytest.mark.parametrize(
    ("headers", "parts", "written"),
    [
        pytest.param([LENGTH], [b"done"], [HEAD + b"\r\ndone"], id="a head waits for its body"),
        pytest.param(
            [LENGTH], [b"do", b"ne"], [HEAD + b"\r\n", b"do", b"ne"], id="but not for all of it"
        ),
        pytest.param(
            [],
            [b"hi", b""],
            [
                b"HTTP/1.1 200 OK\r\ndate: today\r\ntransfer-encoding: chunked\r\n\r\n",
                b"2\r\nhi\r\n",
                b"0\r\n\r\n",
            ],
            id="the head of a stream leaves at once",
        ),
    ],
)
async def test_an_answer_leaves_in_one_piece(
    headers: Sequence[tuple[bytes, bytes]], parts: Sequence[bytes], written: Sequence[bytes]
) -> None:
    answering = Answering()
    await answering.start(*headers)
    await answering.body(*parts)
    assert answering.wire.written == written
    assert (answering.ended, answering.cycle.response_complete) == (1, True)
    assert not answering.wire.closed


async def test_the_head_of_a_stream_does_not_wait_for_its_first_piece() -> None:
    answering = Answering()
    await answering.start()
    assert len(answering.wire.written) == 1


async def test_an_answer_to_head_has_no_body() -> None:
    answering = Answering("HEAD")
    await answering.start(LENGTH)
    await answering.body(b"")
    assert answering.wire.written == [HEAD + b"\r\n"]
    assert answering.ended == 1


@pytest.mark.parametrize(
    ("given", "headers"),
    [
        pytest.param({"keep_alive": False}, [], id="by the request"),
        pytest.param({}, [(b"connection", b"close")], id="by the answer"),
        pytest.param({"default_headers": [(b"connection", b"close"), DATE]}, [], id="by a stop"),
    ],
)
async def test_a_connection_that_ends_says_so_once_and_closes(
    given: dict[str, Any], headers: Sequence[tuple[bytes, bytes]]
) -> None:
    answering = Answering(**given)
    await answering.start(LENGTH, *headers)
    await answering.body(b"done")
    assert answering.wire.written[0].count(b"connection: close\r\n") == 1
    assert answering.wire.closed


@pytest.mark.parametrize("value", [b"x\r\nset-cookie: y", b"x\ny", b"x\ry"])
async def test_a_header_cannot_begin_another(value: bytes) -> None:
    answering = Answering()
    await answering.start(LENGTH, (b"x-name", value))
    with pytest.raises(RuntimeError):
        await answering.body(b"done")
    assert not answering.wire.written


@pytest.mark.parametrize("body", [b"longer", b"no"])
async def test_a_body_must_be_as_long_as_its_head_says(body: bytes) -> None:
    answering = Answering()
    await answering.start(LENGTH)
    with pytest.raises(RuntimeError):
        await answering.body(body)


async def test_an_application_that_breaks_off_after_a_head_is_still_answered_for() -> None:
    answering = Answering()
    await answering.start(LENGTH)
    await answering.cycle.send_500_response()
    (written,) = answering.wire.written
    assert written.startswith(b"HTTP/1.1 500 ")
    assert answering.wire.closed


async def test_a_second_head_is_an_error() -> None:
    answering = Answering()
    await answering.start(LENGTH)
    await answering.body(b"done")
    with pytest.raises(RuntimeError):
        await answering.start(LENGTH)


async def test_nothing_is_written_to_who_has_left() -> None:
    answering = Answering()
    await answering.start(LENGTH)
    answering.cycle.disconnected = True
    await answering.body(b"done")
    assert answering.wire.written == []


async def test_who_does_not_read_is_waited_for() -> None:
    answering = Answering()
    answering.flow.pause_writing()
    await answering.start(LENGTH)
    sending = asyncio.create_task(answering.body(b"done"))
    await asyncio.sleep(1)
    assert not answering.wire.written
    answering.flow.resume_writing()
    await sending
    assert b"".join(answering.wire.written) == HEAD + b"\r\ndone"
