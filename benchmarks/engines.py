"""`python -m benchmarks.engines`: ONNX Runtime and OpenVINO on the same graphs, and over HTTP.

Both sides run in turn, several times, so that whatever else the machine does meets both.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.distilbert import Arithmetic
from benchmarks.load import best_generator, closed_loop
from benchmarks.scenarios import UNCACHED
from benchmarks.servers import Server
from benchmarks.subjects import Sources, Subject, prepare
from benchmarks.target import Target
from service.runtime.providers import Device
from service.runtime.threads import available_cores

PROVIDERS = ("cpu", "openvino")
CONCURRENCY = 32
ROUNDS = 3
TOKENS, TEXTS = 32, 8


@dataclass(slots=True)
class Measured:
    """Medians of all rounds."""

    in_process: list[float] = field(default_factory=list)
    """Items a second."""
    over_http: list[float] = field(default_factory=list)
    resident: float = 0.0
    """MiB after the load."""
    peak: float = 0.0
    """MiB at most."""
    load_seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("subjects", nargs="*", default=["distilbert", "detector", "news-topics"])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    sources = Sources(given.out, given.starters, Arithmetic.FP32)
    console.print(machine.describe())
    for name in given.subjects:
        found = measure(prepare(name, sources), given.seconds, given.out)
        console.print(table(name, found))
    return 0


def measure(subject: Subject, seconds: float, out: Path) -> Mapping[str, Measured]:
    """Return what each provider does, by provider."""
    found = {provider: Measured() for provider in PROVIDERS}
    with ExitStack() as stack:
        servers = {}
        for provider, one in found.items():
            server = _server(subject, provider, out)
            servers[provider] = stack.enter_context(server)
            one.load_seconds = server.wait_ready()
            one.resident, one.peak = _memory(server)
            server.pause()
        runs = {provider: _runs(subject, provider) for provider in PROVIDERS}
        for _ in range(ROUNDS):
            for provider, one in found.items():
                one.in_process.append(_rate(*runs[provider], seconds / 2))
            for provider, one in found.items():
                server = servers[provider]
                server.resume()
                target = Target.of(subject, server.port, out / "bodies" / subject.name, UNCACHED)
                load = closed_loop(target, CONCURRENCY, seconds, best_generator())
                one.over_http.append(load.rate)
                server.pause()
        for server in servers.values():
            server.resume()
    return found


def table(name: str, found: Mapping[str, Measured]) -> Table:
    """Return both providers and the ratios."""
    table = Table("", *found, "ratio", title=f"{name}, {CONCURRENCY} in flight")
    rows: Mapping[str, Callable[[Measured], float]] = {
        "in-process, items/s": lambda one: median(one.in_process),
        "over HTTP, items/s": lambda one: median(one.over_http),
        "over HTTP / in-process": lambda one: median(one.over_http) / median(one.in_process),
        "resident, MiB": lambda one: one.resident,
        "peak, MiB": lambda one: one.peak,
        "load, s": lambda one: one.load_seconds,
    }
    for what, of in rows.items():
        first, other = (of(one) for one in found.values())
        table.add_row(what, f"{first:.2f}", f"{other:.2f}", f"{other / first:.2f}")
    return table


def _server(subject: Subject, provider: str, out: Path) -> Server:
    settings = {
        "QUARTET_MODELS__PROVIDER": provider,
        "QUARTET_MODELS__ONLY": subject.name,
        "QUARTET_MODELS__MEASUREMENTS": "none",
        "QUARTET_CACHE__ENABLED": "false",
    }
    log = out / f"engines-{subject.name}-{provider}.log"
    return Server.quartet(subject.repository, log, settings)


def _memory(server: Server) -> tuple[float, float]:
    process = psutil.Process(server.pid)
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return process.memory_info().rss / 2**20, int(peak) / 2**10


def _runs(subject: Subject, provider: str) -> tuple[Callable[[], object], int]:
    """Return a function that runs a batch, for any thread, and the items of the batch."""
    graph = subject.folder / "model.onnx"
    cores = available_cores()
    device = Device(provider, cores=cores)
    session = device.provider.opens(graph, device, 1)
    feeds: dict[str, NDArray[Any]] = {}
    rows = TEXTS
    for name, spec in session.inputs.items():
        if spec.dtype == "float32":
            rows = 1
            shape = tuple(size or 1 for size in spec.shape)
            feeds[name] = np.random.default_rng(0).random(shape, np.float32)
        else:
            feeds[name] = np.ones((rows, TOKENS), spec.dtype)
    return lambda: session.run(feeds), rows


def _rate(run: Callable[[], object], rows: int, seconds: float) -> float:
    """Return items a second with a thread for each core."""
    run()
    ends, counts = time.perf_counter() + seconds, list[int]()

    def work() -> None:
        count = 0
        while time.perf_counter() < ends:
            run()
            count += rows
        counts.append(count)

    threads = [threading.Thread(target=work) for _ in range(available_cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


if __name__ == "__main__":
    sys.exit(main())
