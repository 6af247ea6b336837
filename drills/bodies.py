"""Hostile bodies for every route: refused with a problem that names the item, and nothing lost."""

import asyncio
import random
from collections.abc import Iterator

from drills.body_cases import Body, bodies, kinds
from drills.http1 import ADDRESS, Answer, Connection, NoAnswerError, NotHttpError, connected
from drills.plan import Plan
from drills.report import Report
from drills.service import Service, serving

_AT_ONCE = 6
_ANSWER_SECONDS = 30.0
_WORST_MB = 1500.0
_GROWTH_MB = 150.0

NO_5XX = "no 5xx"
ANSWERED = "every request is answered"
PROBLEMS = "every refusal is a problem with a request id"
ITEMS = "a refusal names the bad items, and the others are answered"
GOOD = "good requests between hostile ones are answered"
MEMORY = f"resident memory stays below {_WORST_MB:,.0f} MB and returns to within {_GROWTH_MB:g} MB"


async def run(plan: Plan, report: Report) -> None:
    """Send hostile bodies until the time is over."""
    async with serving(plan.folder / "bodies.log") as service:
        draw = plan.draw("bodies")
        drawn = bodies(draw, large=True)
        for body, _ in zip(drawn, range(2 * kinds()), strict=False):
            async with connected(service.port) as connection:
                await _try(connection, body, draw, report)
        before, deadline = await service.steady(), plan.deadline()
        async with asyncio.TaskGroup() as clients:
            for _ in range(_AT_ONCE):
                clients.create_task(_client(service, drawn, draw, report, deadline))
        if wrong := await service.answers():
            report.broken(GOOD, f"at the end: {wrong}")
        growth, peak = await service.steady() - before, service.peak()
        held = await service.settles("http_body_bytes")
    for name, count in sorted(report.counts.items()):
        report.figure(name, count)
    for promise in (NO_5XX, ANSWERED, PROBLEMS, ITEMS, GOOD):
        report.judge(promise)
    kept = peak < _WORST_MB and growth < _GROWTH_MB
    report.judge(MEMORY, found=f"{peak:,.0f} MB, {growth:+.0f} MB", kept=kept)
    report.judge("http_body_bytes returns to 0", found=f"{held:g}", kept=held == 0)


async def _client(
    service: Service, drawn: Iterator[Body], draw: random.Random, report: Report, deadline: float
) -> None:
    """Send bodies on one connection as long as it lasts, then on the next."""
    clock = asyncio.get_running_loop().time
    while clock() < deadline:
        try:
            async with connected(service.port) as connection:
                while clock() < deadline and await _try(connection, next(drawn), draw, report):
                    pass
        except OSError as error:
            report.broken(ANSWERED, f"{error} at a new connection")
            return


async def _try(connection: Connection, body: Body, draw: random.Random, report: Report) -> bool:
    """Send one body; return whether the connection is of further use."""
    report.counts["requests"] += 1
    report.progress()
    example = f"{body.kind}, {body.path} {body.content_type[:60]} {body.data[:200]!r}"
    sending = asyncio.ensure_future(_send(connection, body, draw))
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await connection.answer()
    except (NoAnswerError, NotHttpError, TimeoutError) as error:
        report.broken(ANSWERED, f"{type(error).__name__} {error}, for {example}")
        return False
    finally:
        await sending
    _judge(answer, body, report, example)
    return not answer.closes


async def _send(connection: Connection, body: Body, draw: random.Random) -> None:
    """Send it whole, in chunks, or in small pieces; as drawn."""
    lines = [f"POST {body.path} HTTP/1.1", f"Host: {ADDRESS}"]
    if body.content_type:
        lines.append(f"Content-Type: {body.content_type}")
    lines += [f"{name}: {value}" for name, value in body.headers.items()]
    way = draw.choice(["whole", "whole", "pieces", "chunks"])
    size = draw.choice([7, 100, 4096]) if len(body.data) < 3000 else max(4096, len(body.data) // 20)
    pieces = [body.data[at : at + size] for at in range(0, len(body.data), size)]
    if way == "chunks":
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
        lines.append("Transfer-Encoding: chunked")
    else:
        pieces = [body.data] if way == "whole" else pieces
        lines.append(f"Content-Length: {len(body.data)}")
    if not await connection.send("\r\n".join([*lines, "", ""]).encode("latin-1")):
        return
    for piece in pieces:
        if not await connection.send(piece):
            return
        if way != "whole":
            await asyncio.sleep(0.001)


def _judge(answer: Answer, body: Body, report: Report, example: str) -> None:
    report.counts[f"{answer.status // 100}xx answers"] += 1
    if answer.status >= 500:
        report.broken(NO_5XX, f"{answer.status} {answer.body[:200]!r} for {example}")
    elif fault := answer.fault():
        report.broken(PROBLEMS, f"{fault}, for {example}")
    if body.is_good and answer.status not in {200, 429}:
        report.broken(GOOD, f"{answer.status} {answer.body[:200]!r} for {example}")
    if body.bad_items and answer.status != 429:
        _judge_items(answer, body, report, example)


def _judge_items(answer: Answer, body: Body, report: Report, example: str) -> None:
    problem = answer.json() or {}
    named = [fault.get("index") for fault in problem.get("errors", ())]
    if named != list(body.bad_items):
        report.broken(ITEMS, f"{named} instead of {list(body.bad_items)}: {example}")
    results = problem.get("results", ())
    lost = [n for n, result in enumerate(results) if result is None and n not in body.bad_items]
    if not results or lost:
        report.broken(ITEMS, f"{lost or 'all'} of the others not answered: {example}")
