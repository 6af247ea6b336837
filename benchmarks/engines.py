"""`python -m benchmarks.engines`: ONNX Runtime and OpenVINO on the same items, and over HTTP.

Both engines answer the items in processes of their own, one item at a time on each core: the
limits. The service answers them over HTTP, as it does with ONNX Runtime alone and by default. All
run in turn, several times, so that whatever else the machine does meets all of them.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.answerers import FamilyAnswerer
from benchmarks.distilbert import Arithmetic
from benchmarks.limit import Question, Workers
from benchmarks.load import best_generator, closed_loop
from benchmarks.scenarios import UNCACHED
from benchmarks.servers import Server
from benchmarks.subjects import Sources, Subject, prepare, published
from benchmarks.target import Target
from service.runtime.providers import Device
from service.runtime.threads import available_cores

CONCURRENCY = 32

SERVED: Mapping[str, Mapping[str, str]] = {
    "onnxruntime": {"QUARTET_MODELS__PROVIDER": "cpu"},
    "by default": {},
}

_GOLDENS = 8


@dataclass(slots=True)
class Measured:
    """Items a second, a number for each round."""

    limits: dict[str, list[float]] = field(default_factory=dict)
    """By engine, in process."""
    served: dict[str, list[float]] = field(default_factory=dict)
    """By what serves."""
    resident: dict[str, float] = field(default_factory=dict)
    """MiB after the load."""
    peak: dict[str, float] = field(default_factory=dict)
    """MiB at most, during load and requests."""
    load_seconds: dict[str, Sequence[float]] = field(default_factory=dict)
    """Of the first start and of the next one."""
    candidates: Sequence[Mapping[str, object]] = ()
    """What the default has compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument(
        "subjects",
        nargs="*",
        default=["distilbert", "cards", "news-topics"],
        help="a subject, or the folder of a model with texts as items in a repository",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    sources = Sources(given.out, given.starters, Arithmetic.FP32)
    console.print(machine.describe())
    for name in given.subjects:
        subject = published(Path(name)) if "/" in name else prepare(name, sources)
        record_goldens(subject)
        found = measure(subject, given.seconds, given.rounds, given.out)
        console.print(table(subject.name, found))
    return 0


def record_goldens(subject: Subject) -> None:
    """Give a classifier of texts without goldens those that ONNX Runtime answers.

    Without goldens no other arithmetic than float32 is tried.
    """
    file = subject.folder / "goldens.json"
    if file.exists() or isinstance(subject.items[0], bytes):
        return
    answerer = FamilyAnswerer.open(subject.folder, 1, Device("cpu"))
    rows = [
        {"item": {"text": item}, "answer": {"labels": _labels(answerer.answer(item))}}
        for item in subject.items[:_GOLDENS]
    ]
    facts = {"created_with": "onnxruntime", "items": rows}
    file.write_text(json.dumps(facts), encoding="utf-8")


def _labels(answer: Mapping[str, Any]) -> Sequence[Mapping[str, object]]:
    return [{"label": one["name"], "score": one["score"]} for one in answer["labels"]]


def measure(subject: Subject, seconds: float, rounds: int, out: Path) -> Measured:
    """Return the rates of both engines in process and of both services."""
    found, cores = Measured(), available_cores()
    numbers = Device("openvino").provider.inference_precisions()
    engines = {
        "onnxruntime": Device("cpu"),
        **{f"OpenVINO {n}": Device("openvino", inference_precision=n) for n in numbers},
    }
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Workers(subject, cores, 1, device))
            for name, device in engines.items()
        }
        servers = {
            name: stack.enter_context(_started(subject, name, found, out)) for name in SERVED
        }
        for _ in range(rounds):
            for name, one in workers.items():
                rate = one.rate(Question(seconds / 2))
                found.limits.setdefault(name, []).append(rate)
            for name, server in servers.items():
                server.resume()
                target = Target.of(subject, server.port, out / "bodies" / subject.name, UNCACHED)
                load = closed_loop(target, CONCURRENCY, seconds, best_generator())
                found.served.setdefault(name, []).append(load.rate)
                server.pause()
        for name, server in servers.items():
            server.resume()
            found.peak[name] = max(found.peak[name], server.peak_memory())
    return found


def table(name: str, found: Measured) -> Table:
    """Return rates, and their ratios to the limits of the same round."""
    limits = found.limits
    columns = ["", "/s", *(f"of {engine}" for engine in limits), "resident", "peak", "load, s"]
    table = Table(*columns, title=f"{name}, {CONCURRENCY} in flight")
    for engine, rates in limits.items():
        ratios = [_ratio(rates, other) for other in limits.values()]
        table.add_row(f"{engine}, in process", f"{median(rates):.1f}", *ratios)
    for what, rates in found.served.items():
        ratios = [_ratio(rates, other) for other in limits.values()]
        memory = (f"{found.resident[what]:.0f}", f"{found.peak[what]:.0f}")
        loads = ", ".join(f"{seconds:.1f}" for seconds in found.load_seconds[what])
        table.add_row(f"{what}, over HTTP", f"{median(rates):.1f}", *ratios, *memory, loads)
    for row in found.candidates:
        verdict = f"{row['provider']} {row['precision']} in {row['inference_precision']}"
        facts = (f"time {row['ratio']}", f"deviation {row['deviation']}")
        table.add_row(f"{verdict}: {row['verdict']}", *facts)
    return table


def _ratio(rates: Sequence[float], others: Sequence[float]) -> str:
    return f"{median(a / b for a, b in zip(rates, others, strict=True)):.2f}"


def _started(subject: Subject, name: str, found: Measured, out: Path) -> Server:
    """Start a service twice, the second time with what the first one has measured; pause it."""
    kept = out / "measurements" / f"{subject.name}-{name.replace(' ', '-')}"
    shutil.rmtree(kept, ignore_errors=True)
    settings = {
        "QUARTET_MODELS__ONLY": subject.name,
        "QUARTET_MODELS__MEASUREMENTS": str(kept),
        "QUARTET_MODELS__PRECISION": "fp32",
        "QUARTET_CACHE__ENABLED": "false",
        **SERVED[name],
    }
    log, starts = out / f"engines-{kept.name}.log", list[float]()
    with Server.quartet(subject.repository, log, settings) as server:
        starts.append(server.wait_ready())
        found.peak[name] = server.peak_memory()
    server = Server.quartet(subject.repository, log, settings)
    starts.append(server.wait_ready())
    found.load_seconds[name] = starts
    found.resident[name] = server.memory().rss
    parity = json.loads(server.get(f"/v1/models/{subject.name}/parity"))
    found.candidates = parity["versions"][0]["candidates"]  # at last those of the default
    server.pause()
    return server


if __name__ == "__main__":
    sys.exit(main())
