"""The readers of a stream's events. One that is too slow loses the oldest."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import OverloadedError

MOST_READERS = 16
"""Of one stream."""
_MOST_EVENTS = 64
"""Waiting for one reader."""
_RETRY_SECONDS = 5.0

EventT = TypeVar("EventT")


@dataclass(frozen=True, slots=True)
class Skipped:
    """The reader was too slow for this many events."""

    events: int


@dataclass(eq=False, slots=True)
class Reader(Generic[EventT]):
    """One reader of events."""

    _events: deque[EventT] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    _skipped: int = 0
    _is_closed: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: EventT) -> None:
        """Add an event; if there is no room, the oldest is lost."""
        self._skipped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """End the events after those that wait."""
        self._is_closed = True
        self._news.set()

    async def events(self, silence: float) -> AsyncGenerator[EventT | Skipped | None, None]:
        """Yield the events in order; None after `silence` seconds without one."""
        while True:
            if self._skipped:
                skipped, self._skipped = self._skipped, 0
                yield Skipped(skipped)
            elif self._events:
                yield self._events.popleft()
            elif self._is_closed:
                return
            else:
                self._news.clear()
                try:
                    async with asyncio.timeout(silence):
                        await self._news.wait()
                except TimeoutError:
                    yield None


@dataclass(eq=False, slots=True)
class Readers(Generic[EventT]):
    """All readers of a stream."""

    _readers: set[Reader[EventT]] = field(default_factory=set)
    _is_closed: bool = False

    def __len__(self) -> int:
        return len(self._readers)

    def publish(self, event: EventT) -> None:
        """Give an event to every reader."""
        for reader in self._readers:
            reader.put(event)

    def close(self) -> None:
        """End the events of every reader, also of those that come later."""
        self._is_closed = True
        for reader in self._readers:
            reader.close()

    @contextmanager
    def reading(self) -> Iterator[Reader[EventT]]:
        """Add a reader in a `with` block. Raises OverloadedError if there are too many."""
        if len(self._readers) >= MOST_READERS:
            raise OverloadedError(f"the stream has {MOST_READERS} readers already", _RETRY_SECONDS)
        reader: Reader[EventT] = Reader()
        if self._is_closed:
            reader.close()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
