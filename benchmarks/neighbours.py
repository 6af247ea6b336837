"""`python -m benchmarks.neighbours`: a lone client of a small model, and a flood on a heavy one.

The small model is a starter that classifies a text, the heavy one a detector. Each is measured
alone, then both together. The small one's median should stay within 5 ms and its 99th percentile
within 20 ms, and the heavy one should lose a tenth of its rate at most.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from benchmarks.load import closed_loop, open_loop
from benchmarks.samples import Load
from benchmarks.servers import Server
from benchmarks.subjects import Sources, prepare
from benchmarks.target import Target

_MOST_MEDIAN, _MOST_P99, _LEAST_RATE = 0.005, 0.020, 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=5.0, help="of each measurement")
    add("--clients", type=int, default=16, help="of the heavy model")
    add("--rate", type=float, default=0.0, help="of the small one a second; 0: one after another")
    add("--cache", type=Path, default=Path.home() / ".cache" / "quartet-benchmarks")
    add("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    sources = Sources(given.cache, given.starters)
    subjects = [prepare(name, sources) for name in ("news-topics", "detector")]
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            shutil.copytree(subject.repository, Path(folder, "models"), dirs_exist_ok=True)
        settings = {"QUARTET_CACHE__ENABLED": "false"}
        with Server.quartet(Path(folder, "models"), Path(folder, "log"), settings) as server:
            server.wait_ready()
            small, heavy = (
                Target.of(subject, server.port, Path(folder, subject.name)) for subject in subjects
            )
            return _report(given, small, heavy)


def _report(given: argparse.Namespace, small: Target, heavy: Target) -> int:
    def lone() -> Load:
        if given.rate:
            return open_loop(small, given.rate, given.seconds)
        return closed_loop(small, 1, given.seconds, "client")

    def flood(seconds: float) -> Load:
        return closed_loop(heavy, given.clients, seconds, "client")

    flood(1.0)
    alone, full = lone(), flood(given.seconds)
    with ThreadPoolExecutor(2) as threads:
        flooded, together = threads.submit(flood, given.seconds), threads.submit(lone)
        loss, shared = flooded.result(), together.result()
    kept = loss.rate / full.rate
    print_ = Console(width=120).print
    for name, load in (("alone", alone), ("during the flood", shared)):
        found = load.answered
        print_(
            f"small {name}: {load.rate:.0f}/s, p50 {found.p50 * 1e3:.2f} ms, "
            f"p99 {found.p99 * 1e3:.2f} ms"
        )
    print_(f"heavy alone {full.rate:.1f}/s, with the small one {loss.rate:.1f}/s: {kept:.3f} of it")
    is_good = shared.answered.p50 <= _MOST_MEDIAN and shared.answered.p99 <= _MOST_P99
    return int(not (is_good and kept >= _LEAST_RATE))


if __name__ == "__main__":
    sys.exit(main())
