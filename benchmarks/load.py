"""Chooses a load generator, runs it, and sums up what it saw."""

import json
import subprocess
import sys
from typing import Literal, TypeAlias

from benchmarks import wrk
from benchmarks.client import Plan
from benchmarks.samples import Latencies, Load
from benchmarks.target import Target

GeneratorName: TypeAlias = Literal["wrk", "client"]

_SPARE_SECONDS = 120.0


def best_generator() -> GeneratorName:
    """Return wrk where it is installed, for it costs least, else ours."""
    return "wrk" if wrk.is_installed() else "client"


def closed_loop(target: Target, concurrency: int, seconds: float, generator: GeneratorName) -> Load:
    """Keep `concurrency` requests on their way for so long. Raises RuntimeError."""
    match generator:
        case "wrk":
            return wrk.closed_loop(target, concurrency, seconds)
        case "client":
            return _run(Plan(target, seconds, concurrency=concurrency))


def open_loop(target: Target, rate: float, seconds: float) -> Load:
    """Send `rate` requests a second at random times. Raises RuntimeError."""
    return _run(Plan(target, seconds, rate=rate))


def _run(plan: Plan) -> Load:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.client"],
        input=plan.dumps(),
        capture_output=True,
        text=True,
        check=False,
        timeout=plan.seconds + _SPARE_SECONDS,
    )
    if run.returncode:
        raise RuntimeError(f"the load generator failed: {run.stderr}")
    return summarise(run.stdout)


def summarise(report: str) -> Load:
    """Sum up what `benchmarks.client` wrote."""
    seen = json.loads(report)
    by_status = {int(status): Latencies.of(values) for status, values in seen["latencies"].items()}
    answered = by_status.pop(200, Latencies.of([]))
    seconds = seen["seconds"]
    return Load(seconds, answered, by_status, seen["errors"], seen["cpu_seconds"] / seconds)
