"""All live streams of the process."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.errors import OverloadedError, ShuttingDownError, StreamNotFoundError
from service.live.address import AllowedSources
from service.live.stream import LiveStream
from service.live.turns import Turns
from service.live.work import LiveWork

_END_SECONDS = 1.0
"""To wait for the task of a stream that ends."""
_RETRY_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class LiveStreams:
    """The streams by id. Each has a slot, a small number for metrics, until its threads end."""

    sources: AllowedSources = field(default_factory=AllowedSources)
    _streams: dict[str, LiveStream] = field(default_factory=dict)
    _slots: dict[int, LiveStream] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _turns: dict[str, Turns] = field(default_factory=dict)
    """By model."""
    _is_closed: bool = False

    def add(self, url: str, work: LiveWork, most: int) -> LiveStream:
        """Start a stream.

        Args:
            url: of its source.
            work: what to do with its frames.
            most: streams at the same time.

        Raises:
            InvalidInputError: the address is not valid.
            ForbiddenError: it may not be opened.
            OverloadedError: there are as many streams as allowed.
            ShuttingDownError: the process stops.
        """
        address = self.sources.checked(url)
        if self._is_closed:
            raise ShuttingDownError("the service is shutting down")
        slot = self._free_slot(most)
        stream = LiveStream(secrets.token_hex(6), slot, address, work, self._turns_of)
        self._streams[stream.id] = self._slots[slot] = stream
        self._tasks[stream.id] = asyncio.get_running_loop().create_task(stream.run())
        return stream

    def all(self) -> Sequence[LiveStream]:
        """Return the streams, the oldest first."""
        return [*self._streams.values()]

    def find(self, stream_id: str) -> LiveStream:
        """Return a stream. Raises StreamNotFoundError."""
        if (stream := self._streams.get(stream_id)) is None:
            raise StreamNotFoundError("there is no live stream of this id")
        return stream

    async def remove(self, stream_id: str) -> None:
        """End a stream. Raises StreamNotFoundError."""
        stream = self.find(stream_id)
        del self._streams[stream_id]
        task = self._tasks.pop(stream_id)
        task.cancel()
        await asyncio.wait([task], timeout=_END_SECONDS)
        stream.end()
        if not self._streams:
            self._turns.clear()

    async def close(self) -> None:
        """End all streams, and refuse new ones."""
        self._is_closed = True
        await asyncio.gather(*map(self.remove, [*self._streams]))

    def _turns_of(self, model: str) -> Turns:
        return self._turns.setdefault(model, Turns())

    def _free_slot(self, most: int) -> int:
        for slot in range(most):
            if slot not in self._slots or self._slots[slot].is_gone:
                return slot
        raise OverloadedError(f"{most} live streams run already", _RETRY_SECONDS)
