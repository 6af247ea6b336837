"""SIGKILL of one process after the other under mixed load: next to nothing lost, and no orphan."""

import asyncio
import random
import time
from collections.abc import Sequence

import psutil

from drills.load import Material, under_load
from drills.plan import Plan
from drills.report import Report
from drills.service import Service, serving
from loadtest.payloads import Payloads

_CLIENTS = 32
_PROCESSES = 2
_PAUSE_SECONDS = 2.0
_PATIENT_SECONDS = 55
"""Deadline of the requests: some are computed again and again, and a busy machine is slow."""
_BACK_SECONDS = 60.0
_ORPHAN_SECONDS = 15.0

LOST = "at most one request a kill is lost, just read and counted, and none is refused"
WHOLE = "/metrics is whole, and has no more series after the kills"
BACK = "all processes serve again afterwards"
ORPHANS = "no process is left when the supervisor is killed"


async def run(plan: Plan, report: Report) -> None:
    """Kill processes until the time is over, then the supervisor."""
    draw = plan.draw("crashes")
    settings = {
        "QUARTET_SERVER__PROCESSES": str(_PROCESSES),
        "QUARTET_LIMITS__REQUEST_TIMEOUT_SECONDS": str(_PATIENT_SECONDS),
    }
    make = Material(Payloads(draw.randrange(10**6))).make
    async with serving(plan.folder / "crashes.log", settings) as service:
        await _wait_for_all(service, report)
        async with under_load(service.port, make, clients=_CLIENTS) as outcomes:
            await asyncio.sleep(_PAUSE_SECONDS)
            before = await service.metrics()
            await _kill(plan, draw, service, report)
            await asyncio.sleep(_PAUSE_SECONDS)
            after = await service.metrics()
        _judge_losses(outcomes.lost, after["process_requests_lost_total"], report)
        for refusal in outcomes.unexpected():
            report.broken(LOST, refusal)
        report.figure("requests answered", outcomes.answered)
        for name in ("process_restarts_total", "process_requests_retried_total"):
            report.figure(name, after[name])
        lower = [name for name in before if "_total" in name and after.get(name, 0) < before[name]]
        kept = not lower and after["processes"] == _PROCESSES
        report.judge(WHOLE, found=f"{len(before)} series, then {len(after)}", kept=kept)
        await _kill_supervisor(service, report)
    for promise in (LOST, BACK, ORPHANS):
        report.judge(promise)


def _judge_losses(lost: Sequence[str], counted: float, report: Report) -> None:
    """Break the promise if more requests were lost than kills, or than the service counted.

    What a process has read and not yet recorded ends with it (decision 60).
    """
    report.figure("requests lost", len(lost))
    report.figure("process_requests_lost_total", counted)
    if len(lost) > min(counted, report.counts["kills"]):
        for loss in lost:
            report.broken(LOST, loss)


def _workers(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.running.process.pid).children()


async def _kill(plan: Plan, draw: random.Random, service: Service, report: Report) -> None:
    """Kill one process each time that all serve, and no sooner than a pause after the last one.

    Killed faster than they start, they would wait longer and longer before they start again.
    """
    deadline = plan.deadline()
    while time.monotonic() < deadline:
        if workers := _workers(service):
            draw.choice(workers).kill()
            report.counts["kills"] += 1
        await asyncio.sleep(_PAUSE_SECONDS)
        await _wait_for_all(service, report)
        report.progress()
    report.figure("processes killed", report.counts["kills"])


async def _wait_for_all(service: Service, report: Report) -> None:
    patience = time.monotonic() + _BACK_SECONDS
    while await service.total("processes") < _PROCESSES:
        if time.monotonic() > patience:
            report.broken(BACK, f"{len(_workers(service))} processes after {_BACK_SECONDS:g} s")
            return
        await asyncio.sleep(0.1)


async def _kill_supervisor(service: Service, report: Report) -> None:
    left = _workers(service)
    service.running.process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, _ORPHAN_SECONDS)
    for one in alive:
        report.broken(ORPHANS, f"process {one.pid} runs after {_ORPHAN_SECONDS:g} s")
        one.kill()
