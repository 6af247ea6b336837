"""`python -m benchmarks.overload`: ten times as many requests as the service can answer.

First the capacity is measured: as many requests in flight as may wait, of which none may be
refused. Then requests come at random times, and then from clients that ask again at once when they
are refused. The load generator runs on the same machine.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.load import closed_loop, open_loop
from benchmarks.samples import Latencies, Load
from benchmarks.servers import Server
from benchmarks.subjects import SUBJECTS, Sources, prepare
from benchmarks.target import Target

_UNCACHED = {"Cache-Control": "no-store"}
_REFUSED = 429

_LEAST_RATE, _LEAST_RATE_OF_RETRIES = 0.9, 0.85
_SLOWEST_REFUSAL = 0.03
_MOST_GROWTH = 1.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    add = parser.add_argument
    add("--subject", choices=SUBJECTS, default="distilbert")
    add("--seconds", type=float, default=8.0, help="of each measurement")
    add("--queue", type=int, default=256, help="requests that may wait")
    add("--times", type=float, default=10.0, help="requests offered, as a multiple of the capacity")
    add("--cache", type=Path, default=Path.home() / ".cache" / "quartet-benchmarks")
    add("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    subject = prepare(given.subject, Sources(given.cache, given.starters))
    settings = {"QUARTET_BATCHING__MAX_QUEUE_SIZE": str(given.queue)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Server.quartet(subject.repository, Path(folder, "log"), settings) as server,
    ):
        server.wait_ready()
        target = Target.of(subject, server.port, Path(folder, "bodies"), _UNCACHED)
        closed_loop(target, given.queue, 1.0, "client")
        full = closed_loop(target, given.queue, given.seconds, "client")
        over = open_loop(target, given.times * full.rate, given.seconds)
        retries = closed_loop(target, 2 * given.queue, given.seconds, "client")
    return _report(full, over, retries)


def _report(full: Load, over: Load, retries: Load) -> int:
    print_ = Console(width=120).print
    for name, load in (("full queue", full), ("overload", over), ("retries at once", retries)):
        refused = load.refused.get(_REFUSED, Latencies.of([]))
        print_(
            f"{name}: {load.rate:.0f}/s, {load.rate / full.rate:.2f} of the capacity; p50 "
            f"{load.answered.p50 * 1e3:.0f} ms, p99 {load.answered.p99 * 1e3:.0f} ms; "
            f"{refused.count / load.seconds:.0f}/s refused: p50 {refused.p50 * 1e3:.1f} ms, "
            f"p99 {refused.p99 * 1e3:.1f} ms, slowest {refused.most * 1e3:.1f} ms; "
            f"{load.errors} errors; generator {load.generator_cpu:.2f} of a core"
        )
    is_good = (
        not full.refused
        and over.rate >= _LEAST_RATE * full.rate
        and retries.rate >= _LEAST_RATE_OF_RETRIES * full.rate
        and over.refused[_REFUSED].most <= _SLOWEST_REFUSAL
        and over.answered.p99 <= _MOST_GROWTH * full.answered.p99
    )
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
