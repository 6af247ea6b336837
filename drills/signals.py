"""SIGTERM under mixed load with streams, and with a run that lasts: nothing lost, and an end."""

import asyncio
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from drills import lasting_model
from drills.http1 import NoAnswerError, NotHttpError, ask, post, request
from drills.load import Material, under_load
from drills.plan import Plan
from drills.report import Report
from drills.service import STARTERS, Service, serving
from loadtest.payloads import Payloads

_CLIENTS, _STREAMS = 8, 4
_SPARE_SECONDS = 2.0
_HOPELESS_SECONDS = 30.0
_LIVE_SECONDS = 2.0
_GRACES = ((10, 12), (2, 300))
"""Grace in seconds with the lines of a stream: enough to finish them, and too little."""

LOST = "no request is lost by a stop"
REFUSALS = "refusals by a stop are 503 shutting_down, and only after the grace"
EXIT = f"the process ends within the grace and {_SPARE_SECONDS:g} s, with status 0"
LIVE = f"/health/live answers within {_LIVE_SECONDS:g} s while runs last"
LASTING = "a lasting run is answered with its deadline"
OTHERS = "another model is served while runs last"


async def run(plan: Plan, report: Report) -> None:
    """Stop services until the time is over, then one whose runs last."""
    draw, deadline = plan.draw("signals"), plan.deadline()
    exits: list[float] = []
    stops = 0
    while stops < len(_GRACES) or time.monotonic() < deadline:
        grace, lines = _GRACES[stops % len(_GRACES)]
        exits.append(await _stop(plan, draw, report, grace, lines) - grace)
        stops += 1
    report.figure("stops under load", stops)
    report.figure("requests answered", report.counts["answers"])
    report.figure("streams received to their end", report.counts["streams"])
    report.figure("longest stop, seconds over the grace", max(exits))
    await _lasting(plan, report)
    for promise in (LOST, REFUSALS, EXIT, LIVE, LASTING, OTHERS):
        report.judge(promise)


async def _stop(plan: Plan, draw: random.Random, report: Report, grace: int, lines: int) -> float:
    """Stop one service under load; return how long its process took to end."""
    settings = {"QUARTET_SERVER__GRACE_SECONDS": str(grace)}
    make = Material(Payloads(draw.randrange(10**6))).make
    async with (
        serving(plan.folder / "signals.log", settings) as service,
        under_load(service.port, make, clients=_CLIENTS, streams=_STREAMS, lines=lines) as outcomes,
    ):
        await asyncio.sleep(1 + draw.random() * 2)
        seconds = await _terminate(service, grace, report)
    report.counts["answers"] += outcomes.answered
    report.counts["streams"] += outcomes.streams
    for loss in outcomes.lost:
        report.broken(LOST, f"grace {grace} s: {loss}")
    allowed = () if grace > 5 else ("503 shutting_down", "stream shutting_down")
    for refusal in outcomes.unexpected(*allowed):
        report.broken(REFUSALS, f"grace {grace} s: {refusal}")
    report.say(
        f"grace {grace} s: {outcomes.answered} answered, {outcomes.streams} streams, "
        f"{len(outcomes.lost)} lost, refusals {dict(outcomes.refusals)}, ended in {seconds:.1f} s"
    )
    return seconds


async def _terminate(service: Service, grace: int, report: Report) -> float:
    """Send SIGTERM and wait for the end; kill a process that does not end."""
    process, started = service.running.process, time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        status = await asyncio.to_thread(process.wait, grace + _HOPELESS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        report.broken(EXIT, f"not in {grace + _HOPELESS_SECONDS:g} s (grace {grace} s)")
        return time.monotonic() - started
    seconds = time.monotonic() - started
    if status or seconds > grace + _SPARE_SECONDS:
        report.broken(EXIT, f"in {seconds:.1f} s with status {status} (grace {grace} s)")
    return seconds


async def _lasting(plan: Plan, report: Report) -> None:
    """Start more runs than there are threads that do not end; look around; stop."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        lasting_model.write(repository / "lasting" / "1")
        shutil.copytree(STARTERS / "news-topics", repository / "news-topics")
        settings = {
            "QUARTET_MODELS__REPOSITORY": folder,
            "QUARTET_MODELS__DEFAULTS": "classify.text=news-topics",
            "QUARTET_SERVER__GRACE_SECONDS": "2",
        }
        async with serving(plan.folder / "lasting.log", settings) as service:
            await _look_around(service, report)
            value = {"text": lasting_model.TEXT, "model": "lasting"}
            patient = post("/v1/classify", value, {"X-Request-Timeout-Ms": "60000"})
            waiting = [asyncio.create_task(_outcome(service, patient, 60)) for _ in range(3)]
            await asyncio.sleep(1)
            seconds = await _terminate(service, 2, report)
            for outcome in await asyncio.gather(*waiting):
                if outcome not in {"503", "504"}:
                    report.broken(LOST, f"a lasting run at a stop: {outcome}")
            report.figure("stop with lasting runs, seconds over the grace", seconds - 2)


async def _look_around(service: Service, report: Report) -> None:
    value = {"text": lasting_model.TEXT, "model": "lasting"}
    brief = post("/v1/classify", value, {"X-Request-Timeout-Ms": "1000"})
    runs = [asyncio.create_task(_outcome(service, brief, 20)) for _ in range(4)]
    await asyncio.sleep(0.5)
    started = time.monotonic()
    live = await _outcome(service, request("GET", "/health/live"), _LIVE_SECONDS)
    if live != "200":
        report.broken(LIVE, live)
    report.figure("slowest /health/live while runs last, seconds", time.monotonic() - started)
    for outcome in await asyncio.gather(*runs):
        if outcome != "504":
            report.broken(LASTING, outcome)
    other = await _outcome(service, post("/v1/classify", {"text": "Stocks fall"}), 20)
    if other != "200":
        report.broken(OTHERS, other)


async def _outcome(service: Service, data: bytes, seconds: float) -> str:
    """Return the status of an answer, or what came in its place."""
    try:
        return str((await ask(service.port, data, seconds=seconds)).status)
    except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
        return f"{type(error).__name__} {error}"
