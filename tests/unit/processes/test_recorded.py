"""Requests that an earlier worker has received, on their second connection."""

import asyncio
import sys
from typing import Any

import pytest

from service.api.context import AGE, GUILTY
from service.processes.recorded import RecordedProtocol
from service.processes.records import MOST_BYTES, Records, Room
from tests.unit.http_application import REQUEST, Application, answer, running

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.usefixtures("quick_stop"),
    pytest.mark.skipif(sys.platform != "linux", reason="requests are recorded on Linux"),
]
COUNT = 20
"""More than begin in one turn of the event loop."""


class _Marks(Application):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, bool]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.append((AGE in scope, GUILTY in scope))
        await super().__call__(scope, receive, send)


async def test_what_is_tried_again_is_marked_and_what_follows_is_not() -> None:
    app, records = _Marks(), Records(COUNT)
    for slot in range(COUNT):
        records.record(slot, Room(MOST_BYTES)).receive(REQUEST)
        records.record(slot).accuse()
    taken = (records.record(slot, Room(MOST_BYTES)) for slot in range(COUNT))

    class Repeating(RecordedProtocol):
        record_of = staticmethod(lambda _: next(taken))

    async with running(app) as (port, _):
        app.server.make_protocol = Repeating
        opening = (asyncio.open_connection("127.0.0.1", port) for _ in range(COUNT))
        clients = await asyncio.gather(*opening)
        for reader, _ in clients:
            await answer(reader)
        assert app.seen == [(True, True)] * COUNT
        for reader, writer in clients:
            writer.write(REQUEST)
            await answer(reader)
            writer.close()
    assert app.seen[COUNT:] == [(False, False)] * COUNT
