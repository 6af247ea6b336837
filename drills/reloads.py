"""A storm of loads, corrupt loads and unloads under load: nothing accepted is lost."""

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

from drills.http1 import NoAnswerError, NotHttpError, ask, post, request
from drills.load import Material, under_load
from drills.plan import Plan
from drills.report import Report
from drills.service import STARTERS, TOKEN, Service, serving
from loadtest.kinds import Kind
from loadtest.payloads import Payloads

_MODELS = ("news-topics", "digits")
_KINDS = (Kind.CLASSIFY_TEXT, Kind.CLASSIFY_IMAGE)
_CORRUPT = 3
_AT_ONCE = 3
_LOAD_SECONDS = 120.0
_GROWTH_MB = 90.0
_AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
_GONE = ("404 model_not_found", "503 model_not_ready")
_ADMIN = {
    "load": {"200", "409"},
    "load of a corrupt version": {"500 model_load_failed", "409"},
    "load of an unknown version": {"404 model_not_found", "409"},
    "load in an unknown precision": {"4"},
    "unload": {"204", "409", "404 model_not_found", "503 model_not_ready"},
}
"""Answers that each action may have, whatever else happens at the same time."""

LOADS = "no request is lost or refused by a storm of loads"
UNLOADS = "with unloads, a request is answered or refused as not found or not ready"
ADMIN = "every action is answered truthfully"
STATES = "afterwards the states are true and both models serve"
MEMORY = f"resident memory returns to within {_GROWTH_MB:g} MB"


async def run(plan: Plan, report: Report) -> None:
    """Load and unload until the time is over; the second half with unloads."""
    with tempfile.TemporaryDirectory() as folder:
        for model in _MODELS:
            _make_versions(Path(folder) / model, STARTERS / model / "1")
        settings = {
            "QUARTET_MODELS__REPOSITORY": folder,
            "QUARTET_MODELS__VERSIONS": ",".join(f"{model}=1" for model in _MODELS),
        }
        async with serving(plan.folder / "reloads.log", settings) as service:
            await _storm_and_look(service, plan, report)
    for name, count in sorted(report.counts.items()):
        report.figure(name, count)
    for promise in (LOADS, UNLOADS, ADMIN, STATES):
        report.judge(promise)


def _make_versions(folder: Path, source: Path) -> None:
    """Write two good versions and one whose graph is cut short."""
    for version in (1, 2, _CORRUPT):
        shutil.copytree(source, folder / str(version))
    graph = folder / str(_CORRUPT) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-5000])


async def _storm_and_look(service: Service, plan: Plan, report: Report) -> None:
    make = Material(Payloads(plan.seed), _KINDS).make
    draw = plan.draw("reloads")
    for _ in range(4):  # warm-up: memory of the first reloads stays
        await _act(service, draw, report, unloads=False)
    before = await service.steady()
    for unloads, promise in ((False, LOADS), (True, UNLOADS)):
        deadline = plan.deadline(0.5)
        async with under_load(service.port, make, clients=6) as outcomes:
            await asyncio.gather(
                *(_storm(service, draw, report, deadline, unloads) for _ in range(_AT_ONCE))
            )
        report.counts["requests answered"] += outcomes.answered
        for loss in outcomes.lost:
            report.broken(promise, loss)
        for refusal in outcomes.unexpected(*(_GONE if unloads else ())):
            report.broken(promise, refusal)
    await _look(service, report)
    growth = await service.steady(8) - before
    report.judge(MEMORY, found=f"{growth:+.1f} MB", kept=growth < _GROWTH_MB)


async def _storm(
    service: Service, draw: random.Random, report: Report, deadline: float, unloads: bool
) -> None:
    while time.monotonic() < deadline:
        await _act(service, draw, report, unloads=unloads)
        report.progress()


async def _act(service: Service, draw: random.Random, report: Report, *, unloads: bool) -> None:
    """Do one thing to one model, as an administrator."""
    model = draw.choice(_MODELS)
    actions = {
        "load": {"version": draw.choice([1, 2])},
        "load of a corrupt version": {"version": _CORRUPT},
        "load of an unknown version": {"version": 99},
        "load in an unknown precision": {"version": 1, "precision": "int3"},
    }
    weights = [6, 2, 1, 1]
    action = draw.choices(list(actions), weights)[0]
    if unloads and draw.random() < 0.4:
        action = "unload"
    path = f"/v1/models/{model}/{'unload' if action == 'unload' else 'load'}"
    found = await _administered(service, path, actions.get(action, {}))
    report.counts[f"{action}: {found}"] += 1
    if found.startswith("409"):
        await asyncio.sleep(0.05)  # a load is running: leave it some time
    if not any(found.startswith(expected) for expected in _ADMIN[action]):
        report.broken(ADMIN, f"{action} of {model} is {found}")


async def _administered(service: Service, path: str, value: object) -> str:
    """Return the status of an action, with the problem's code."""
    try:
        answer = await ask(service.port, post(path, value, _AUTHORIZED), seconds=_LOAD_SECONDS)
    except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
        return f"{type(error).__name__} {error}"
    problem = answer.json() or {}
    return f"{answer.status} {problem.get('code', '')}".strip()


async def _look(service: Service, report: Report) -> None:
    """Load version 2 of both and compare what is said of them with what they do."""
    for model in _MODELS:
        found = await _administered(service, f"/v1/models/{model}/load", {"version": 2})
        if found != "200":
            report.broken(STATES, f"{model} cannot be loaded: {found}")
    listed = (await ask(service.port, request("GET", "/v1/models"), method="GET")).json()["models"]
    states = {(one["model"], one["version"]): one["state"] for one in listed}
    for model in _MODELS:
        ready = [v for (name, v), state in states.items() if name == model and state == "ready"]
        if ready != [2]:
            report.broken(STATES, f"{model}: versions {ready} are ready of {states}")
    for number in range(4):
        make = Material(Payloads(number + 10**6), _KINDS).make
        answer = await ask(service.port, make(number * 5 + number % 2 + 1))
        if answer.status != 200 or (answer.json() or {}).get("version") != 2:
            report.broken(STATES, f"asked: {answer.status} {answer.body[:200]!r}")
    ready_answer = await ask(service.port, request("GET", "/health/ready"), method="GET")
    if ready_answer.status != 200:
        report.broken(STATES, f"/health/ready is {ready_answer.status} {ready_answer.body[:200]!r}")
