"""Sends each sentence once: at random times, or in a closed loop of connections."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import islice

from benchmarks.client import arrivals
from benchmarks.target import HOST
from benchmarks.translation.findings import Stream
from benchmarks.translation.subjects import Load, Question

_PATIENCE = 60.0
"""Seconds that an answer may take."""


class _Connections:
    """Keep-alive connections, as many as are needed at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def translate(self, text: str, beams: int) -> tuple[int, bytes]:
        """Return status and body."""
        idle = self._idle
        reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, self._port)
        body = json.dumps({"text": text, "num_beams": beams}).encode()
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
        """Close idle connections."""
        for _, writer in self._idle:
            writer.close()


def at_random_times(engine: str, port: int, load: Load, rate: float, seed: int) -> Stream:
    """Send `rate` sentences a second on average; latencies count from when each was due."""
    many = arrivals(rate, 10 * len(load.questions) / rate, seed)
    due = list(islice(many, len(load.questions)))

    async def send(ask: Callable[[Question, float], Awaitable[None]]) -> None:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for at, question in zip(due, load.questions, strict=True):
                await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
                tasks.create_task(_awaited(ask(question, started + at)))

    return asyncio.run(_measured(engine, port, load, rate, send))


def as_fast_as_possible(engine: str, port: int, load: Load, connections: int) -> Stream:
    """Keep this many requests in progress until all are answered."""

    async def send(ask: Callable[[Question, float], Awaitable[None]]) -> None:
        left = iter(load.questions)

        async def work() -> None:
            for question in left:
                await ask(question, time.perf_counter())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(work())

    return asyncio.run(_measured(engine, port, load, None, send))


async def _awaited(answer: Awaitable[None]) -> None:
    await answer


async def _measured(
    engine: str,
    port: int,
    load: Load,
    rate: float | None,
    send: Callable[[Callable[[Question, float], Awaitable[None]]], Awaitable[None]],
) -> Stream:
    connections = _Connections(port)
    latencies: list[float] = []
    answers: list[tuple[Question, int, bytes]] = []

    async def ask(question: Question, due: float) -> None:
        async with asyncio.timeout(_PATIENCE):
            status, body = await connections.translate(question.text, load.beams)
        if status == HTTPStatus.OK:  # a refusal is quick, and must not make the mean better
            latencies.append(time.perf_counter() - due)
        answers.append((question, status, body))

    started = time.perf_counter()
    await send(ask)
    seconds = time.perf_counter() - started
    connections.close()
    pairs = [
        (q.answers[load.beams], _translation(body)) for q, s, body in answers if s == HTTPStatus.OK
    ]
    wrong = sum(right != said for right, said in pairs)
    tokens = sum(load.count(said) for _, said in pairs if said is not None)
    refused = len(answers) - len(pairs)
    return Stream(engine, rate, latencies, tokens, seconds, wrong, refused, load.beams)


def _translation(body: bytes) -> str | None:
    """Return the translation, in Quartet's format or that of the CTranslate2 server."""
    said = None
    with suppress(ValueError, LookupError):
        answer = json.loads(body)
        said = answer["results"][0]["translation"] if "results" in answer else answer["translation"]
    return said
