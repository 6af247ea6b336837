"""Sends each sentence once: at random times, or over so many connections as fast as they go."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice

from benchmarks.client import arrivals
from benchmarks.target import HOST
from benchmarks.translation.countdown import Sentence
from benchmarks.translation.findings import Stream

_PATIENCE = 60.0
"""Seconds that an answer may take."""


class _Connections:
    """Keep-alive connections, as many as are needed at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def translate(self, text: str) -> tuple[int, bytes]:
        """Return status and body."""
        idle = self._idle
        reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, self._port)
        body = json.dumps({"text": text}).encode()
        writer.write(
            b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Cache-Control: no-store\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await reader.readexactly(int(fields["content-length"]))
        self._idle.append((reader, writer))
        return int(lines[0].split(" ")[1]), answer

    def close(self) -> None:
        """Close those that nobody uses."""
        for _, writer in self._idle:
            writer.close()


def at_random_times(
    engine: str, port: int, sentences: Sequence[Sentence], rate: float, seed: int
) -> Stream:
    """Send `rate` sentences a second on average; latencies count from when each was due."""
    many = arrivals(rate, 10 * len(sentences) / rate, seed)
    due = list(islice(many, len(sentences)))

    async def send(ask: Callable[[Sentence, float], Awaitable[None]]) -> None:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for at, sentence in zip(due, sentences, strict=True):
                await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
                tasks.create_task(_awaited(ask(sentence, started + at)))

    return asyncio.run(_measured(engine, port, sentences, rate, send))


def as_fast_as_possible(
    engine: str, port: int, sentences: Sequence[Sentence], connections: int
) -> Stream:
    """Keep so many sentences on their way until all are answered."""

    async def send(ask: Callable[[Sentence, float], Awaitable[None]]) -> None:
        left = iter(sentences)

        async def work() -> None:
            for sentence in left:
                await ask(sentence, time.perf_counter())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(work())

    return asyncio.run(_measured(engine, port, sentences, None, send))


async def _awaited(answer: Awaitable[None]) -> None:
    await answer


async def _measured(
    engine: str,
    port: int,
    sentences: Sequence[Sentence],
    rate: float | None,
    send: Callable[[Callable[[Sentence, float], Awaitable[None]]], Awaitable[None]],
) -> Stream:
    connections = _Connections(port)
    latencies: list[float] = []
    wrong = 0

    async def ask(sentence: Sentence, due: float) -> None:
        nonlocal wrong
        async with asyncio.timeout(_PATIENCE):
            status, body = await connections.translate(sentence.text)
        latencies.append(time.perf_counter() - due)
        wrong += status != 200 or _translation(body) != sentence.answer

    started = time.perf_counter()
    await send(ask)
    seconds = time.perf_counter() - started
    connections.close()
    tokens = sum(sentence.target_length for sentence in sentences)
    return Stream(engine, rate, latencies, tokens, seconds, wrong)


def _translation(body: bytes) -> str | None:
    """Return the translation, in the service's form or that of the server beside it."""
    said = None
    with suppress(ValueError, LookupError):
        answer = json.loads(body)
        said = answer["results"][0]["translation"] if "results" in answer else answer["translation"]
    return said
