"""A mixed load of all four tasks and of streams, and what became of every request of it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from drills.http1 import (
    Answer,
    Connection,
    NoAnswerError,
    NotHttpError,
    connected,
    post,
    request,
)
from loadtest.kinds import STREAMED, UNSERVED, Kind
from loadtest.pacing import Arrival
from loadtest.payloads import Payloads

_ANSWER_SECONDS = 60.0


@dataclass
class Outcomes:
    """What became of the requests of a load."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    """Refusals by status and code."""
    lost: list[str] = field(default_factory=list)
    """Requests without a complete answer, unless their connection was announced to close."""
    streams: int = 0
    """Streams that were received to their end."""

    @property
    def answered(self) -> int:
        """Return how many requests have a whole answer."""
        return sum(self.statuses.values())

    def count(self, answer: Answer) -> None:
        """Count an answer."""
        self.statuses[answer.status] += 1
        if answer.status >= 400:
            problem = answer.json()
            code = problem.get("code") if isinstance(problem, dict) else "not a problem"
            self.refusals[f"{answer.status} {code}"] += 1

    def unexpected(self, *expected: str) -> list[str]:
        """Return the refusals that are not among the expected, with their numbers."""
        return [f"{n} x {kind}" for kind, n in self.refusals.items() if kind not in expected]


@dataclass(frozen=True, slots=True)
class Material:
    """The requests of a load: different ones without end, the same for the same seed."""

    payloads: Payloads
    kinds: tuple[Kind, ...] = tuple(kind for kind in Kind if kind not in UNSERVED | STREAMED)

    def make(self, number: int) -> bytes:
        """Return one request; a fifth of them are repeated and may come from the cache."""
        kind = self.kinds[number % len(self.kinds)]
        one = self.payloads.request(Arrival(number, 0.0, kind, number % 5 == 0))
        return request("POST", one.path, one.body, one.headers)


def stream_request(number: int, lines: int = 12) -> bytes:
    """Return a request for a stream of that many lines, which no cache knows."""
    text = "\n".join(f"我们{number}昨天在图书馆看见了{line}只猫。" for line in range(lines))
    value = {"text": text, "stream": "segments"}
    return post("/v1/translate", value, {"Accept": "application/x-ndjson"})


async def streamed(connection: Connection, outcomes: Outcomes) -> bool:
    """Receive a stream to its end; return whether the connection may be used again.

    Raises:
        NoAnswerError: it has no end.
    """
    try:
        status, headers = await connection.head()
        if status != 200:
            body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
            outcomes.count(Answer(status, headers, body))
            return "close" not in headers.get("connection", "")
        text = b"".join([chunk async for chunk in connection.chunks()])
    except (asyncio.IncompleteReadError, OSError, ValueError) as error:
        raise NoAnswerError(f"in a stream: {type(error).__name__} {error}") from error
    events = [json.loads(line) for line in text.splitlines()]
    if not events or events[-1]["event"] != "end":
        raise NoAnswerError("a stream without its end")
    for event in events:
        if event["event"] == "error":
            outcomes.refusals[f"stream {event['code']}"] += 1
    outcomes.statuses[status] += 1
    outcomes.streams += 1
    return "close" not in headers.get("connection", "")


Talk = Callable[[Connection], Coroutine[Any, Any, bool]]
"""Sends one request and receives its answer; returns whether the connection may be used again."""


async def client(
    port: int, outcomes: Outcomes, talk: Talk, stopping: asyncio.Event, *, reuse: bool
) -> None:
    """Send requests until `stopping`, or until the service no longer listens.

    A request without a whole answer is lost. That includes one sent on a connection that had
    answered before, because the service had not said that it would close it.
    """
    while not stopping.is_set():
        try:
            async with connected(port) as connection:
                usable = True
                while usable and not stopping.is_set():
                    usable = await asyncio.wait_for(talk(connection), _ANSWER_SECONDS) and reuse
        except ConnectionRefusedError:
            return
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            outcomes.lost.append(f"{talk.__name__}, {type(error).__name__}: {error}")


@asynccontextmanager
async def under_load(
    port: int, make: Callable[[int], bytes], *, clients: int = 6, streams: int = 0, lines: int = 12
) -> AsyncIterator[Outcomes]:
    """Keep a load on the service until the end of the block, and wait for the last answers.

    Half of the clients use a connection again and again, the others one for each request.
    """
    outcomes, numbers = Outcomes(), iter(range(10**9))
    stopping = asyncio.Event()

    async def plain(connection: Connection) -> bool:
        await connection.send(make(next(numbers)))
        answer = await connection.answer()
        outcomes.count(answer)
        return not answer.closes

    async def stream(connection: Connection) -> bool:
        await connection.send(stream_request(next(numbers), lines))
        return await streamed(connection, outcomes)

    talks: Sequence[Talk] = [*[plain] * clients, *[stream] * streams]
    tasks = [
        asyncio.create_task(client(port, outcomes, talk, stopping, reuse=number % 2 == 0))
        for number, talk in enumerate(talks)
    ]
    try:
        yield outcomes
        stopping.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
