"""`python -m benchmarks.peers`: Quartet compared with other servers, in turn, on the same models.

All servers of a subject are started and answer the same items, which are compared. Then, for each
round and concurrency: the in-process limit, every server in turn with all others paused, and the
limit again. docs/benchmarks.md describes the method and the settings.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from rich.console import Console

from benchmarks import machine
from benchmarks.distilbert import Arithmetic
from benchmarks.limit import Question, Workers
from benchmarks.load import best_generator, closed_loop
from benchmarks.peers.results import Footprint, Found, Reading, draw, table, write_json
from benchmarks.scenarios import UNCACHED, agrees
from benchmarks.servers import Server, free_port
from benchmarks.subjects import Sources, Subject, prepare
from benchmarks.target import Target

SUBJECTS = ("news-topics", "distilbert", "detector")
PEERS = ("mosec", "litserve")
BATCHES = (1, 8)
"""The sizes with which each peer is measured; the better one counts."""

_QUARTET = "quartet"
_COMPARED = 8
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server."""

    name: str
    batch: int | None
    server: Server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 2 where the peers' environment is missing."""
    given = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=150)
    if not given.python.exists():
        console.print(f"[red]{given.python} is missing: `make bench-peers` installs the peers")
        return 2
    sources = Sources(given.out, given.starters, Arithmetic(given.int8))
    found = Found(machine.describe(), [], [])
    for name in given.subjects:
        _measure(prepare(name, sources), given, found, console)
    for name in found.subjects():
        console.print(table(found, name))
    write_json(found, given.out / "peers.json")
    draw(found, given.out / "peers.png")
    console.print(f"written: {given.out / 'peers.json'}, {given.out / 'peers.png'}")
    return 0


def _measure(subject: Subject, given: argparse.Namespace, found: Found, console: Console) -> None:
    """Add a subject's readings and footprints to what was found."""
    with ExitStack() as stack:
        workers = stack.enter_context(Workers(subject, machine.cores(), 1))
        servers = _start_all(stack, subject, given)
        agreements = [_agreement(subject, one, servers[0]) for one in servers]
        for one, share in zip(servers, agreements, strict=True):
            console.print(f"{subject.name}: {share:.0%} of {one.name}'s answers agree")
        for number in range(1, given.rounds + 1):
            for concurrency in given.concurrency:
                console.print(f"{subject.name}: round {number}, concurrency {concurrency}")
                readings = _round(subject, servers, workers, (number, concurrency), given)
                found.readings.extend(readings)
        for one, share in zip(servers, agreements, strict=True):
            pss = one.server.memory().pss
            found.footprints.append(Footprint(subject.name, one.name, one.batch, pss, share))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add = parser.add_argument
    add("--subjects", nargs="+", default=list(SUBJECTS), choices=SUBJECTS, metavar="NAME",
        help=f"which of {', '.join(SUBJECTS)}")  # fmt: skip
    add("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME",
        help=f"which of {', '.join(PEERS)}")  # fmt: skip
    add("--batches", type=int, nargs="+", default=list(BATCHES), help="sizes of peers' batches")
    add("--processes", type=int, nargs="*", default=[2], metavar="N",
        help="also Quartet with this `server.processes`")  # fmt: skip
    add("--seconds", type=float, default=4.0, help="length of one measurement")
    add("--rounds", type=int, default=5, help="how often all is measured; medians count")
    add("--concurrency", type=int, nargs="+", default=[1, 8, 32, 64])
    add("--int8", choices=[a.value for a in Arithmetic], default=Arithmetic.DYNAMIC.value,
        help="arithmetic of the DistilBERT-size subject")  # fmt: skip
    add("--starters", type=Path, default=Path("models/repository"), help="model repository")
    add("--python", type=Path, default=Path(".venv/peers/bin/python"), help="of the peers")
    add("--out", type=Path, default=Path("benchmarks/out"), help="where everything is written")
    return parser


def _start_all(stack: ExitStack, subject: Subject, given: argparse.Namespace) -> list[Contestant]:
    """Start the servers one after another; each but the one that starts is paused."""
    logs = given.out / "logs"
    naive = Server.naive(subject.folder, logs / f"peers-{subject.name}-naive.log")
    found = [Contestant("naive", 1, stack.enter_context(naive))]
    _wait_answering(naive, subject)
    naive.pause()
    for processes in (1, *given.processes):
        name = _QUARTET if processes == 1 else f"{_QUARTET} x {processes}"
        log = logs / f"peers-{subject.name}-{name.replace(' ', '')}.log"
        settings = {"QUARTET_SERVER__PROCESSES": str(processes)}
        quartet = Server.quartet(subject.repository, log, settings)
        found.append(Contestant(name, None, stack.enter_context(quartet)))
        quartet.wait_ready()
        quartet.pause()
    for peer in given.peers:
        for batch in given.batches:
            port = free_port()
            words = (subject.folder, port, subject.route, machine.cores(), batch)
            command = [str(given.python), "-m", f"benchmarks.peers.{peer}_server", *map(str, words)]
            log = logs / f"peers-{subject.name}-{peer}-{batch}.log"
            # Each worker has one thread; no library may start more.
            server = Server(command, {"OMP_NUM_THREADS": "1"}, log, port)
            found.append(Contestant(peer, batch, stack.enter_context(server)))
            _wait_answering(server, subject)
            server.pause()
    return found


def _wait_answering(server: Server, subject: Subject) -> None:
    """Wait for the first answer.

    Raises:
        RuntimeError: there is none within two minutes.
    """
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            server.post(subject.route, subject.bodies[0], {"Content-Type": subject.content_type})
        except (OSError, HTTPException):
            time.sleep(0.1)
        else:
            return
    tail = server.log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"a server did not answer:\n{tail}")


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.resume()
    try:
        yield server
    finally:
        server.pause()


def _agreement(subject: Subject, one: Contestant, naive: Contestant) -> float:
    """Return the share of some items that a server answers as the naive one does."""
    headers = {"Content-Type": subject.content_type}
    bodies = subject.bodies[:_COMPARED]
    with _running(naive.server) as server:
        expected = [server.post(subject.route, body, headers) for body in bodies]
    with _running(one.server) as server:
        answers = [server.post(subject.route, body, headers) for body in bodies]
    plain = [answer.get("results", [answer])[0] for answer in answers]
    return sum(map(agrees, expected, plain)) / len(bodies)


def _round(
    subject: Subject,
    servers: Sequence[Contestant],
    workers: Workers,
    at: tuple[int, int],
    given: argparse.Namespace,
) -> list[Reading]:
    """Measure every server once; the first server is another one in each round."""
    number, concurrency = at
    bodies = given.out / "bodies" / subject.name
    question = Question(given.seconds / 2)
    before = workers.rate(question)
    loads = []
    first = number % len(servers)
    for one in (*servers[first:], *servers[:first]):
        headers = UNCACHED if one.name.startswith(_QUARTET) else None
        target = Target.of(subject, one.server.port, bodies, headers)
        with _running(one.server):
            loads.append((one, closed_loop(target, concurrency, given.seconds, best_generator())))
    limit = (before + workers.rate(question)) / 2
    return [
        Reading(
            subject.name,
            one.name,
            one.batch,
            concurrency,
            load.rate,
            limit,
            load.answered.p50,
            load.answered.p99,
        )
        for one, load in loads
    ]


if __name__ == "__main__":
    sys.exit(main())
