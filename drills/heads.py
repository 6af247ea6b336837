"""Hostile request heads: every one is answered or refused properly, and changes nothing else."""

import asyncio
import itertools
import time
from collections.abc import Iterator

from drills.grammar import cases, kinds
from drills.head_case import Case
from drills.http1 import (
    Answer,
    Connection,
    Ending,
    NoAnswerError,
    NotHttpError,
    connected,
    request,
)
from drills.plan import Plan
from drills.report import Report
from drills.service import Service, serving

_AT_ONCE = 8
_ANSWER_SECONDS = 10.0
_EXAMPLE_BYTES = 300
_GROWTH_MB = 40.0

NO_5XX = "no 5xx but 501 and 505 for what is unknown of HTTP"
PROBLEMS = "every refusal is a problem with a request id"
NUMBER = "as many answers as requests, in their order"
STATUSES = "an answer that fits the request"
AFTERWARDS = "a good request is answered afterwards"
SERIES = "the number of metric series is constant"
MEMORY = f"resident memory grows by less than {_GROWTH_MB:g} MB"


async def run(plan: Plan, report: Report) -> None:
    """Send hostile heads until the time is over."""
    async with serving(plan.folder / "heads.log") as service:
        drawn = cases(plan.draw("heads"))
        # Warm-up, without which memory and series would still grow: every route, and every kind.
        await service.visit_routes()
        for case in itertools.islice(drawn, 4 * kinds()):
            await _try(service, case, report)
        memory, series = await service.steady(), await _series(service)
        deadline = plan.deadline()
        await asyncio.gather(*(_client(service, drawn, report, deadline) for _ in range(_AT_ONCE)))
        if wrong := await service.answers():
            report.broken(AFTERWARDS, f"at the end: {wrong}")
        growth = await service.steady() - memory
        more = await _series(service) - series
    for name in sorted(more):
        report.broken(SERIES, name)
    for name, count in sorted(report.counts.items()):
        report.figure(name, count)
    for promise in (NO_5XX, PROBLEMS, NUMBER, STATUSES, AFTERWARDS):
        report.judge(promise)
    report.judge(SERIES, found=f"{len(series):,}, and {len(more)} more")
    report.judge(MEMORY, found=f"{growth:+.1f} MB", kept=growth < _GROWTH_MB)


async def _client(service: Service, drawn: Iterator[Case], report: Report, deadline: float) -> None:
    while time.monotonic() < deadline:
        await _try(service, next(drawn), report)


async def _series(service: Service) -> set[str]:
    """Return the series, without those of the counter http_requests.

    It has one for each route, method and status that occurred, so their number is bounded, but
    chance decides when each occurs first.
    """
    return {n for n in await service.metrics() if not n.startswith("http_requests_")}


async def _try(service: Service, case: Case, report: Report) -> None:
    report.counts["connections"] += 1
    report.progress()
    example = f"{case.kind}: {b'|'.join(case.packets)[:_EXAMPLE_BYTES]!r}"
    try:
        async with asyncio.timeout(_ANSWER_SECONDS * 2), connected(service.port) as connection:
            await _converse(connection, case, report, example)
    except TimeoutError:
        report.broken(NUMBER, f"no answer in time to {example}")
    except NotHttpError as error:
        report.broken(NUMBER, f"{error}, for {example}")
    except OSError as error:
        report.broken(AFTERWARDS, f"{error} at a new connection, {example}")


async def _converse(connection: Connection, case: Case, report: Report, example: str) -> None:
    sending = asyncio.ensure_future(_send(connection, case))
    answers: list[Answer] = []
    ended = False
    try:
        while not ended and (case.is_open_ended or len(answers) < case.answers):
            answers.append(await connection.answer(case.method))
            ended = answers[-1].closes
    except NoAnswerError:
        ended = True
    await sending
    report.counts["answers"] += len(answers)
    for answer in answers:
        _judge(answer, case, report, example)
    if len(answers) < case.answers and not _was_refused(answers):
        report.broken(NUMBER, f"{len(answers)} of {case.answers} answers to {example}")
    ids = [answer.headers.get("x-request-id", "") for answer in answers]
    if case.ids and ids != list(case.ids[: len(ids)]):
        report.broken(NUMBER, f"answers in the order {ids} to {example}")
    if "smuggled" in ids:
        report.broken(NUMBER, f"a body was answered as a request: {example}")
    if not case.is_open_ended:
        await _nothing_more(connection, report, example)


async def _send(connection: Connection, case: Case) -> None:
    for number, packet in enumerate(case.packets):
        if number:
            await asyncio.sleep(0.002)  # a packet of its own
        if not await connection.send(packet):
            return
    if case.is_open_ended:
        connection.half_close()


def _was_refused(answers: list[Answer]) -> bool:
    """Return whether the service closed the connection with a refusal: the rest has no answer."""
    return bool(answers) and answers[-1].closes and answers[-1].status >= 400


def _judge(answer: Answer, case: Case, report: Report, example: str) -> None:
    report.counts[f"{answer.status // 100}xx answers"] += 1
    if answer.status >= 500 and answer.status not in case.statuses:
        report.broken(NO_5XX, f"{answer.status} for {example}")
    elif answer.status not in case.statuses:
        report.broken(STATUSES, f"{answer.status} for {example}")
    if case.method != "HEAD" and (fault := answer.fault()):
        report.broken(PROBLEMS, f"{fault}, for {example}")


async def _nothing_more(connection: Connection, report: Report, example: str) -> None:
    """Show that the service owes nothing: the next answer, if any, is that of the next request."""
    sentinel = {"X-Request-Id": "sentinel"}
    await connection.send(request("GET", "/health/live", headers=sentinel))
    try:
        answer = await connection.answer("GET")
    except NoAnswerError:
        left, ending = await connection.ended(1.0)
        if left or ending is Ending.OPEN:
            report.broken(NUMBER, f"{left[:80]!r} was received after {example}")
        report.counts["connections closed by the service"] += 1
        return
    if answer.headers.get("x-request-id") != "sentinel":
        report.broken(NUMBER, f"an answer too many ({answer.status}) to {example}")
    elif answer.status != 200:
        report.broken(AFTERWARDS, f"{answer.status} on the same connection after {example}")
