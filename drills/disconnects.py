"""Clients that leave at random moments: those that stay are answered, and nothing is left over."""

import asyncio
import random
from contextlib import suppress

from drills.http1 import Connection, NoAnswerError, NotHttpError, connected
from drills.load import Material, Outcomes, stream_request, streamed
from drills.plan import Plan
from drills.report import Report
from drills.service import Service, serving
from loadtest.payloads import Payloads

_CLIENTS = 24
_ANSWER_SECONDS = 60.0
_GAUGES = ("inference_pending_requests", "http_streams", "http_body_bytes", "inflight_rows")
_SPARE_DESCRIPTORS = 4
_MOMENTS = ("connecting", "in the head", "in the body", "while queued", "while streaming")

ANSWERED = "every client that stays is answered"
NO_5XX = "no client that stays gets a 5xx"
AFTERWARDS = "a good request is answered afterwards"


async def run(plan: Plan, report: Report) -> None:
    """Let half of the clients leave, round after round, until the time is over."""
    async with serving(plan.folder / "disconnects.log") as service:
        material, draw = Material(Payloads(plan.seed)), plan.draw("disconnects")
        outcomes = Outcomes()
        await _round(service, material, draw, outcomes, report)
        descriptors, deadline = service.descriptors(), plan.deadline()
        clock = asyncio.get_running_loop().time
        while clock() < deadline:
            await _round(service, material, draw, outcomes, report)
            report.progress()
        if wrong := await service.answers():
            report.broken(AFTERWARDS, wrong)
        left = {gauge: await service.settles(gauge) for gauge in _GAUGES}
        more = service.descriptors() - descriptors
    _judge(outcomes, report)
    for gauge, value in left.items():
        report.judge(f"{gauge} returns to 0", found=f"{value:g}", kept=value == 0)
    report.judge("no descriptor is left", found=f"{more:+d}", kept=more <= _SPARE_DESCRIPTORS)


def _judge(outcomes: Outcomes, report: Report) -> None:
    for loss in outcomes.lost:
        report.broken(ANSWERED, loss)
    for kind, number in outcomes.refusals.items():
        if kind.startswith("5"):
            report.broken(NO_5XX, f"{number} x {kind}")
    report.figure("clients that stayed", report.counts["stayed"])
    for moment in _MOMENTS:
        report.figure(f"clients that left {moment}", report.counts[moment])
    report.figure("answers", dict(outcomes.statuses))
    report.judge(ANSWERED, found=outcomes.answered)
    for promise in (NO_5XX, AFTERWARDS):
        report.judge(promise)


async def _round(
    service: Service, material: Material, draw: random.Random, outcomes: Outcomes, report: Report
) -> None:
    async with asyncio.TaskGroup() as clients:
        for _ in range(_CLIENTS):
            number = draw.randrange(10**6)
            report.counts["stayed"] += 1
            clients.create_task(_stay(service.port, material, number, outcomes))
            moment = draw.choice(_MOMENTS)
            report.counts[moment] += 1
            one = random.Random(draw.getrandbits(64))
            clients.create_task(_leave(service.port, material, moment, one))


async def _stay(port: int, material: Material, number: int, outcomes: Outcomes) -> None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), connected(port) as connection:
            if number % 12 == 0:
                await connection.send(stream_request(number))
                await streamed(connection, outcomes)
            else:
                await connection.send(material.make(number))
                outcomes.count(await connection.answer())
    except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
        outcomes.lost.append(f"{type(error).__name__}: {error}")


async def _leave(port: int, material: Material, moment: str, draw: random.Random) -> None:
    data = material.make(draw.randrange(10**6))
    body = data.index(b"\r\n\r\n") + 4
    with suppress(OSError, NoAnswerError, NotHttpError, TimeoutError, asyncio.IncompleteReadError):
        async with connected(port) as connection:
            if moment == "in the head":
                await connection.send(data[: draw.randrange(1, body)])
            elif moment == "in the body":
                await connection.send(data[: draw.randrange(body, len(data))])
            elif moment == "while queued":
                await connection.send(data)
            elif moment == "while streaming":
                await _read_some(connection, draw)
            await asyncio.sleep(draw.random() * 0.1)
            if draw.random() < 0.5:
                connection.reset()


async def _read_some(connection: Connection, draw: random.Random) -> None:
    await connection.send(stream_request(draw.randrange(10**6)))
    await asyncio.wait_for(connection.head(), _ANSWER_SECONDS)
    for _ in range(draw.randrange(3)):
        await asyncio.wait_for(connection.reader.read(500), _ANSWER_SECONDS)
