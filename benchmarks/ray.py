"""`python -m benchmarks.ray`: Quartet on Ray Serve compared with Ray Serve alone, on one model.

A cluster of one node has both behind one proxy (`benchmarks/peers/ray_server.py`), and Quartet runs
without Ray besides. They answer the same texts in turn, as Ray is installed or with what its
documentation names for high throughput. `make .venv/.ray` installs Ray.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.distilbert import Arithmetic
from benchmarks.load import best_generator, closed_loop
from benchmarks.scenarios import UNCACHED, agrees
from benchmarks.servers import Server, free_port
from benchmarks.subjects import SUBJECTS, Sources, Subject, prepare
from benchmarks.target import Target

MODES: Mapping[str, Mapping[str, str]] = {
    "as installed": {},
    "high throughput": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"},
}
"""Variables of Ray, by the name of the table."""
PLACES = {"Ray, batches of 1": "/plain-1", "Ray, batches of 8": "/plain-8", "Quartet on Ray": ""}
"""What stands before the path, by name of the row."""

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine starts the proxy in more than the 5 s after which Ray replaces it.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
}
_START_SECONDS = 180.0
_IDLE_SECONDS = 5.0
_COMPARED = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each mode; return 2 where Ray is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray", description=__doc__)
    add = parser.add_argument
    add("--subject", default="news-topics", choices=SUBJECTS, metavar="NAME")
    add("--modes", nargs="+", default=list(MODES), choices=MODES, metavar="MODE")
    add("--seconds", type=float, default=3.0, help="length of one measurement")
    add("--rounds", type=int, default=3, help="how often all is measured; medians count")
    add("--concurrency", type=int, nargs="+", default=[1, 8, 64])
    add("--starters", type=Path, default=Path("models/repository"), help="model repository")
    add("--python", type=Path, default=Path(".venv/ray/bin/python"), help="of Ray")
    add("--out", type=Path, default=Path("benchmarks/out"), help="where everything is written")
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if not given.python.exists():
        console.print(f"[red]{given.python} is missing: `make .venv/.ray` installs Ray")
        return 2
    subject = prepare(given.subject, Sources(given.out, given.starters, Arithmetic.DYNAMIC))
    for mode in given.modes:
        console.print(_measured(subject, mode, given))
    return 0


@dataclass(frozen=True, slots=True)
class Contestant:
    """What answers below one path of a server."""

    name: str
    server: Server
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """One contestant under one load, once."""

    rate: float
    """Answers a second."""
    cost: float
    """Seconds of processor time an answer, of all processes of the server."""


def _measured(subject: Subject, mode: str, given: argparse.Namespace) -> Table:
    logs, port = given.out / "logs", free_port()
    words = (subject.folder, port, subject.route, machine.cores(), 1, subject.repository.resolve())
    command = [str(given.python), "-m", "benchmarks.peers.ray_server", *map(str, words)]
    with (
        Server.quartet(subject.repository, logs / "ray-alone.log") as alone,
        Server(command, {**_RAY, **MODES[mode]}, logs / "ray.log", port) as on_ray,
    ):
        alone.wait_ready()
        expected = [_answer(alone, subject.route, subject, body) for body in _some(subject)]
        contestants = [Contestant(name, on_ray, prefix) for name, prefix in PLACES.items()]
        for one in contestants:
            _check(one, subject, expected)
        contestants.append(Contestant("Quartet alone", alone))
        idle = on_ray.cpu_share(_IDLE_SECONDS)
        found: dict[tuple[str, int], list[Reading]] = {}
        for number in range(given.rounds):
            first = number % len(contestants)
            for concurrency in given.concurrency:
                for one in (*contestants[first:], *contestants[:first]):
                    reading = _reading(one, subject, concurrency, given)
                    found.setdefault((one.name, concurrency), []).append(reading)
    return _table(
        f"{subject.name}, Ray {mode} ({idle:.0%} of a core when idle): "
        "answers a second / ms of processor time an answer",
        found,
    )


def _reading(
    one: Contestant, subject: Subject, concurrency: int, given: argparse.Namespace
) -> Reading:
    target = Target.of(subject, one.server.port, given.out / "bodies" / subject.name, UNCACHED)
    target = replace(target, route=one.prefix + subject.route)
    before = one.server.cpu_seconds()
    load = closed_loop(target, concurrency, given.seconds, best_generator())
    spent = one.server.cpu_seconds() - before
    return Reading(load.rate, spent / max(1.0, load.rate * given.seconds))


def _table(title: str, found: Mapping[tuple[str, int], Sequence[Reading]]) -> Table:
    table = Table("server", title=title)
    levels = sorted({concurrency for _, concurrency in found})
    for concurrency in levels:
        table.add_column(f"c={concurrency}", justify="right")
    for name in dict.fromkeys(name for name, _ in found):
        cells = [
            f"{median(one.rate for one in found[name, level]):.0f} / "
            f"{1000 * median(one.cost for one in found[name, level]):.2f}"
            for level in levels
        ]
        table.add_row(name, *cells)
    return table


def _some(subject: Subject) -> Sequence[bytes]:
    return subject.bodies[:_COMPARED]


def _answer(server: Server, route: str, subject: Subject, body: bytes) -> Mapping[str, object]:
    answer = server.post(route, body, {"Content-Type": subject.content_type})
    found: Mapping[str, object] = answer.get("results", [answer])[0]
    return found


def _check(one: Contestant, subject: Subject, expected: Sequence[object]) -> None:
    """Wait for the first answer, and compare some.

    Raises:
        RuntimeError: there is none within three minutes, or one differs from Quartet's.
    """
    until, server, name = time.monotonic() + _START_SECONDS, one.server, one.name
    while True:
        try:
            route = one.prefix + subject.route
            answers = [_answer(server, route, subject, body) for body in _some(subject)]
            break
        except (OSError, HTTPException):
            if time.monotonic() > until:
                raise RuntimeError(f"{name} did not answer; see {server.log}") from None
            time.sleep(0.2)
    if not all(map(agrees, expected, answers)):
        raise RuntimeError(f"{name} answers otherwise than Quartet")


if __name__ == "__main__":
    sys.exit(main())
