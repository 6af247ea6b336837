"""Forty models with memory for five: each is loaded at its requests, and leaves for the others."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from drills.http1 import NoAnswerError, NotHttpError, ask, request
from drills.images import good
from drills.plan import Plan
from drills.report import Report
from drills.service import STARTERS, Service, serving

_MODELS = [f"m{number:02}" for number in range(40)]
_PINNED = _MODELS[-1]
_PLACES = 5.5
_CLIENTS = 8
_SWAPS, _FEW_SWAPS = 1000, 60
_WARM_UP = 80
"""Swaps before the memory is looked at: every model was there once or twice."""
_ANSWER_SECONDS = 110.0
_HEADERS = {
    "Content-Type": "image/png",
    "Cache-Control": "no-store",
    "X-Request-Timeout-Ms": "100000",
}
_GROWTH = 0.05

ANSWERS = "every request is answered, whichever models are in memory"
BUDGET = "what is loaded stays within models.memory_bytes"
MEMORY = f"resident memory stays within {_GROWTH:.0%} of what it was"


async def run(plan: Plan, report: Report) -> None:
    """Ask models at random until enough of them have left memory, and compare memory."""
    with tempfile.TemporaryDirectory() as folder:
        for model in _MODELS:
            shutil.copytree(STARTERS / "digits", Path(folder) / "models" / model)
        settings = {
            "QUARTET_MODELS__REPOSITORY": f"{folder}/models",
            "QUARTET_MODELS__MEASUREMENTS": f"{folder}/measurements",
            "QUARTET_MODELS__PINNED": _PINNED,
        }
        size = await _size(plan, settings)
        total = round(_PLACES * size)
        report.figure("memory of one model", f"{size / 1e6:.1f} MB")
        limited = {**settings, "QUARTET_MODELS__MEMORY_BYTES": str(total)}
        async with serving(plan.folder / "swaps.log", limited) as service:
            await _swap(service, _WARM_UP, plan.draw("warm-up"), report)
            before = await service.steady()
            swaps = _FEW_SWAPS if plan.is_short else _SWAPS
            done = await _swap(service, swaps, plan.draw("swaps"), report)
            growth = await service.steady() / before - 1
            loads = await service.total("model_demand_loads_total")
    report.figure("swaps", done)
    report.figure("loads on demand", int(loads))
    report.figure("answers", report.counts["answers"])
    report.judge(ANSWERS)
    report.judge(BUDGET)
    report.judge(MEMORY, found=f"{growth:+.1%} of {before:.0f} MB", kept=growth < _GROWTH)


async def _size(plan: Plan, settings: Mapping[str, str]) -> float:
    """Return what one of the models takes, as a service with room for all says."""
    unlimited = {**settings, "QUARTET_MODELS__MEMORY_BYTES": str(1 << 40)}
    async with serving(plan.folder / "swaps-size.log", unlimited) as service:
        return await service.total("model_memory_bytes")


async def _swap(service: Service, swaps: int, draw: random.Random, report: Report) -> int:
    """Ask until this many models have left memory; return how many have."""
    start = await service.total("model_evictions_total")
    done = 0
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for _ in range(_CLIENTS):
            clients.create_task(_ask(service, draw, report, ended))
        while done < swaps:
            await asyncio.sleep(0.5)
            report.progress()
            done = int(await service.total("model_evictions_total") - start)
            held = await service.total("model_memory_bytes")
            if held > await service.total("model_memory_budget_bytes"):
                report.broken(BUDGET, f"{held:,.0f} bytes are loaded")
            if not service.is_alive:
                report.broken(ANSWERS, "the service has ended")
                break
        ended.set()
    return done


async def _ask(service: Service, draw: random.Random, report: Report, ended: asyncio.Event) -> None:
    picture = good(draw)
    while not ended.is_set():
        model = draw.choice(_MODELS)
        sent = request("POST", f"/v1/classify?model={model}", picture, _HEADERS)
        try:
            answer = await ask(service.port, sent, seconds=_ANSWER_SECONDS)
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            report.broken(ANSWERS, f"{model}: {type(error).__name__} {error}")
            continue
        report.counts["answers"] += answer.status == 200
        if answer.status != 200:
            report.broken(ANSWERS, f"{model}: {answer.status} {answer.body[:200]!r}")
