"""Many items of one caller for one model, such as a thousand labels.

No more of them are in the queue at once than keep the device busy (the pipeline's window), so that
other requests find room in it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from service.errors import DeadlineExceededError, OverloadedError, ServiceError, kept, named
from service.requests.answer import Ask, as_service_error, ask_pipeline
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.tasks import AnyItem

Result: TypeAlias = Outcome[Any] | ServiceError

_LONGEST_WAIT = 0.1
"""Seconds between two attempts to enter a queue that is full."""
_YIELD_EVERY = 32
"""Answers from the cache come without a pause; other work of the event loop runs in between."""


class AtMost:
    """Asks for a bounded number of a request's items at once; make one for each request."""

    def __init__(self, most: int, asks: Ask) -> None:
        self._asks, self._gate = asks, asyncio.Semaphore(most)

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        """Return the outcome of one item. Raises ServiceError."""
        async with self._gate:
            return await self._asks(pipeline, item, request)


class Window:
    """Answers items of one caller; make one for all items that share the window."""

    def __init__(
        self, pipeline: Pipeline[Any, Any], request: Request, ask: Ask = ask_pipeline
    ) -> None:
        self.pipeline, self._request, self._ask = pipeline, request, ask
        self._gate = asyncio.Semaphore(pipeline.window)
        self._has_asked = False

    async def answer(self, items: Sequence[AnyItem], called: Sequence[str]) -> list[Outcome[Any]]:
        """Answer items, in order. If the queue is full, only the first one does not wait for room.

        Args:
            items: of the pipeline's task.
            called: what to call each item in an error.

        Raises:
            ServiceError: an item failed; the message begins with what it is called.
        """
        call = _Call([None] * len(items))
        places = iter(range(len(items)))

        async def work() -> None:
            for place in places:
                async with self._gate:
                    await self._answer_one(items[place], place, call)
                if call.has_failed:
                    return
                if place % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(min(self.pipeline.window, len(items)))))
        for name, result in zip(called, call.results, strict=True):
            if isinstance(result, ServiceError):
                raise named(name, result)
        return [result for result in call.results if isinstance(result, Outcome)]

    async def ask(self, item: AnyItem, request: Request) -> Outcome[Any]:
        """Return the outcome of one item, which waits for room like those of `answer`.

        Raises:
            ServiceError: the item failed, or found no room before its deadline.
        """
        async with self._gate:
            return await self._ask_with_room(item, request, _Call([]))

    async def _answer_one(self, item: AnyItem, place: int, call: "_Call") -> None:
        if call.has_failed:
            return
        try:
            call.results[place] = await self._ask_with_room(item, self._request, call)
        except OverloadedError as error:
            if not call.has_failed:  # else it need not wait for room
                call.fail(place, error)
        except Exception as error:  # a bug, too
            call.fail(place, as_service_error(error, self._request.id))

    async def _ask_with_room(self, item: AnyItem, request: Request, call: "_Call") -> Outcome[Any]:
        """Return an outcome. Raises the item's error, or that of the full queue after a failure."""
        waits, self._has_asked = self._has_asked, True
        while True:
            try:
                return await self._ask(self.pipeline, item, request)
            except OverloadedError as error:
                if not waits or call.has_failed:
                    raise
                seconds = min(error.retry_after or _LONGEST_WAIT, _LONGEST_WAIT)
            if _is_late(request, seconds):
                raise DeadlineExceededError("the deadline passed while the queue was full")
            await asyncio.sleep(seconds)


@dataclass(slots=True)
class _Call:
    """The items of one call of `answer`."""

    results: list[Result | None]
    has_failed: bool = False

    def fail(self, place: int, error: ServiceError) -> None:
        """Note the error of an item; the others need not be asked any more."""
        self.results[place] = kept(error)
        self.has_failed = True


def _is_late(request: Request, seconds: float) -> bool:
    """Return whether a request has less than these seconds left."""
    deadline = request.deadline
    return deadline is not None and asyncio.get_running_loop().time() + seconds > deadline
