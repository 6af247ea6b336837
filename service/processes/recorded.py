"""A worker's HTTP connection: what it has received is recorded until it is answered."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from service.api import exchange
from service.api.connection import Protocol
from service.api.context import AGE, GUILTY
from service.processes.records import Record


class RecordedProtocol(Protocol):
    """A connection that another worker can go on with, after the end of this process."""

    record_of: Callable[[int], Record | None]
    """Returns the record of a connection by its file descriptor."""
    _record: Record | None = None
    _is_counted = True
    """Whether the system counts what was written."""
    _repeats: Record | None = None
    """The record, until what an earlier worker has received is answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with the request that an earlier worker has not answered, if there is one."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        self._is_counted = connection.family != socket.AF_UNIX
        self._record = record = self.record_of(connection.fileno())
        if record is None:
            return
        self._closing.write = self._write
        if data := record.read():
            self._repeats = record
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record nothing more: the slot may be another connection's."""
        self._record = None
        self._closing.write = self.transport.write
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Record what has arrived before it is parsed."""
        if self._record is not None:
            self._record.receive(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Mark a request that an earlier worker has received."""
        super().on_message_begin()
        if (record := self._repeats) is not None:
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]
            scope[AGE] = record.age
            if record.is_guilty:
                scope[GUILTY] = True

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        super().on_message_complete()
        if self._record is not None:
            self._record.end_body()

    def on_response_complete(self) -> None:
        """Forget the request once nothing is left to answer."""
        super().on_response_complete()
        if self._record is None:
            return
        if self.is_idle():
            self._repeats = None
        if self.is_idle() and (self._is_counted or not exchange.unread(self.transport)):
            self._record.finish()
        else:
            self._record.give_up()  # how much of what was received is answered is not known

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if (record := self._record) is not None:
            cycle = self._answering
            is_last = cycle is not None and cycle.response_complete
            is_only = not (self._receives or self.pipeline or self.flow.held)
            record.send(data, is_last and is_only)
        self.transport.write(data)
