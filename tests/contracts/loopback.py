"""An engine in front of another one, to which everything goes as bytes, as between processes."""

import asyncio
from collections.abc import Callable
from itertools import count

from service.engine.curve import BatchCurve
from service.engine.engine import Engine, EngineStatistics, ItemResult, Watch
from service.errors import ServiceError
from service.types import PreparedItem, Share
from tests.contracts.wire import (
    PartialResult,
    Submission,
    decode_reply,
    decode_submission,
    encode_reply,
    encode_submission,
)

Send = Callable[[bytes], None]


class Server:
    """The far side: knows the engine, and receives and sends bytes only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def receive(self, number: int, message: bytes, send: Send) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(message, send))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))

    def cancel(self, number: int) -> None:
        if number in self._tasks:
            self._tasks[number].cancel()

    async def _answer(self, message: bytes, send: Send) -> None:
        asked = decode_submission(message)
        now = asyncio.get_running_loop().time()
        deadline = None if asked.seconds_left is None else now + asked.seconds_left
        watch: Watch | None = None
        if asked.is_watched:

            def watch(tensors: object) -> None:
                send(encode_reply(PartialResult(tensors)))

        try:
            result = await self._engine.submit(
                asked.prepared, deadline, asked.priority, watch, asked.share
            )
        except ServiceError as error:
            send(encode_reply(error))
        else:
            send(encode_reply(result))


class LoopbackEngine:
    """The near side."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._server = engine, Server(engine)
        self._numbers = count()

    @property
    def curve(self) -> BatchCurve:
        return self._engine.curve

    @property
    def streams_partial_results(self) -> bool:
        return self._engine.streams_partial_results

    @property
    def window(self) -> int:
        return self._engine.window

    def statistics(self) -> EngineStatistics:
        return self._engine.statistics()

    def start(self) -> None:
        self._engine.start()

    async def stop(self, grace: float) -> int:
        return await self._engine.stop(grace)

    def check_room(self, share: Share | None = None) -> None:
        try:
            self._engine.check_room(share)
        except ServiceError as error:
            sent = decode_reply(encode_reply(error))
            assert isinstance(sent, ServiceError)
            raise sent from None

    async def submit(
        self,
        prepared: PreparedItem,
        deadline: float | None = None,
        priority: int = 0,
        watch: Watch | None = None,
        share: Share | None = None,
    ) -> ItemResult:
        left = None if deadline is None else deadline - asyncio.get_running_loop().time()
        number = next(self._numbers)
        replies: asyncio.Queue[bytes] = asyncio.Queue()
        message = encode_submission(Submission(prepared, left, priority, watch is not None, share))
        self._server.receive(number, message, replies.put_nowait)
        try:
            while True:
                match decode_reply(await replies.get()):
                    case PartialResult(tensors):
                        assert watch is not None
                        watch(tensors)
                    case ServiceError() as error:
                        try:
                            raise error
                        finally:
                            del error  # it refers to this frame
                    case ItemResult() as result:
                        return result
        finally:
            self._server.cancel(number)
