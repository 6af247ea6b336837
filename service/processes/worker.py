"""What a worker knows of the supervisor: the channel to it, and what it asks over it."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from service.api.connection import Protocol
from service.processes.board import Board
from service.processes.channel import LENGTH_BYTES, Message, encoded
from service.processes.connections import HandedOver
from service.processes.exposition import Exposition, merged, snapshot
from service.processes.quarantine import WorkerQuarantine
from service.processes.recorded import RecordedProtocol
from service.processes.records import NO_SLOT, Record, Records, Room

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 0.25


@dataclass(eq=False, slots=True)
class Worker:
    """One of several processes that serve. Made before the fork, used after it."""

    number: int
    count: int
    """Of all workers."""
    board: Board
    control: socket.socket
    """For messages from and to the supervisor."""
    connections: list[HandedOver]
    """Where connections come from, for each address of the service."""
    state: Any = None
    """Which versions the other workers serve; None if the settings say it."""
    refused: Mapping[str, float] = field(default_factory=dict)
    """Requests that have ended workers, and until when they are refused."""
    records: Records | None = None
    """Where the requests of connections are recorded; None records none."""
    room: Room = field(default_factory=lambda: Room(0))
    """For long requests."""
    change: Callable[[Any], Awaitable[None]] | None = None
    """Makes a change of models that another worker has made. Raises ServiceError."""
    quarantine: WorkerQuarantine = field(init=False)
    _slots: dict[int, int] = field(default_factory=dict)
    _writer: asyncio.StreamWriter | None = None
    _questions: dict[int, asyncio.Future[Message]] = field(default_factory=dict)
    _asked: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.quarantine = WorkerQuarantine(
            self.refused, lambda digest: self.send("refuse", digest=digest)
        )

    def listeners(self) -> list[socket.socket]:
        """Return what the server takes for listening sockets."""
        for one in self.connections:
            one.slots = self._slots
            one.on_listen = partial(self.send, "started")
            one.on_receive = partial(self.board.receive, self.number)
            one.on_close = partial(self.board.close, self.number)
        return [*self.connections]

    def make_protocol(self, *arguments: Any) -> Protocol:
        """Return the protocol of a connection, which the supervisor can give to other workers."""
        protocol = RecordedProtocol(*arguments)
        protocol.record_of = self._record_of
        return protocol

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Read messages and show that the event loop runs, until the block ends."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self.control)
        tasks = [asyncio.create_task(self._read(reader)), asyncio.create_task(self._beat())]
        try:
            yield
        finally:
            for task in (*tasks, *self._tasks):
                task.cancel()
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
            self._writer.close()

    def send(self, kind: str, **values: Any) -> None:
        """Send a message to the supervisor."""
        if self._writer is not None:
            self._writer.write(encoded({"kind": kind, **values}))

    async def ask(self, kind: str, **values: Any) -> Message:
        """Send a question and return the answer.

        Raises:
            ConnectionError: the supervisor is gone.
        """
        if self._writer is None or self._writer.is_closing():
            raise ConnectionError("the supervisor is gone")
        question, self._asked = self._asked, self._asked + 1
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._questions[question] = answer
        self.send(kind, question=question, **values)
        try:
            return await answer
        finally:
            del self._questions[question]

    async def metrics(self) -> Exposition:
        """Return the metrics of all processes; of this one alone if the supervisor is gone."""
        try:
            found = await self.ask("collect")
        except ConnectionError:
            return Exposition(await asyncio.to_thread(snapshot), 1, {})
        values = await asyncio.to_thread(merged, found["snapshots"])
        return Exposition(values, found["processes"], found["counts"])

    def _record_of(self, descriptor: int) -> Record | None:
        slot = self._slots.pop(descriptor, NO_SLOT)
        if self.records is None or slot == NO_SLOT:
            return None
        return self.records.record(slot, self.room)

    async def _beat(self) -> None:
        while True:
            self.board.beat(self.number)
            for one in self.connections:
                one.flush()
            await asyncio.sleep(_BEAT_SECONDS)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
                self._receive(orjson.loads(await reader.readexactly(length)))
        _log.critical("the supervisor is gone; this process stops", extra={"worker": self.number})
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the supervisor is gone"))
        os.kill(os.getpid(), signal.SIGTERM)

    def _receive(self, message: Message) -> None:
        if message["kind"] == "answer":
            answer = self._questions.get(message["question"])
            if answer is not None and not answer.done():
                answer.set_result(message)
            return
        if message["kind"] == "refuse":
            self.quarantine.refused.add(message["digest"])
            return
        handler = self._apply if message["kind"] == "apply" else self._show
        task = asyncio.create_task(handler(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, message: Message) -> None:
        failure: str | None = "it does not serve yet"
        try:
            if self.change is not None:
                await self.change(message["operation"])
                failure = None
        except Exception as error:  # the process that asked reports it, whatever it is
            failure = str(error) or type(error).__name__
        self.send("applied", change=message["change"], failure=failure)

    async def _show(self, message: Message) -> None:
        self.send("snapshot", values=await asyncio.to_thread(snapshot))
