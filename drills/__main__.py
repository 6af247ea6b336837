"""`python -m drills`: mistreats the service in eleven ways and says which promises it kept.

Each drill starts services of its own on free ports of the loopback interface. Exit status:
0 every promise was kept, 1 one was broken, 3 a drill could not be run, 130 it was interrupted.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from drills.plan import Plan
from drills.report import Report, table

Drill = Callable[[Plan, Report], Coroutine[None, None, None]]

_DRILLS: Mapping[str, str] = {
    "heads": "hostile request heads, drawn from a grammar",
    "bodies": "hostile bodies and images for every route",
    "generated": "requests generated from the OpenAPI description",
    "redis": "a Redis that is broken in every way, and a real one stopped under load",
    "reloads": "loads, corrupt loads and unloads at once, under load",
    "disconnects": "clients that disconnect at random moments, among clients that stay",
    "signals": "SIGTERM under mixed load with streams, and with a run that lasts",
    "crashes": "SIGKILL of one process after the other under load, then of the supervisor",
    "swaps": "forty models with memory for five, 1,000 swaps (60 in less than 30 s)",
    "streams": "sixteen live streams whose sources die, fall silent and send garbage",
    "memory": "resident memory after every kind of request, refusal and reload",
}
_NOT_RUN = 3
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drills; return the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if unknown := set(given.drill) - _DRILLS.keys():
        parser.error(f"no such drill: {', '.join(sorted(unknown))}")
    plan = Plan(given.seconds, given.seed, given.out)
    reports: list[Report] = []
    status = 0
    try:
        for name in given.drill or _DRILLS:
            report = Report(name, given.out)
            reports.append(report)
            report.say(f"{_DRILLS[name]}; {given.seconds:g} s, seed {given.seed}")
            try:
                asyncio.run(_drill(name)(plan, report))
            except (RuntimeError, ImportError, FileNotFoundError) as error:
                report.say(f"could not be run: {error}")
                status = _NOT_RUN
            if path := report.write_examples():
                report.say(f"every case of a broken promise is in {path}")
    except KeyboardInterrupt:
        return _INTERRUPTED
    rows = [row for report in reports for row in report.rows]
    sys.stdout.write("\n".join(["", *table(rows, markdown=given.markdown), ""]))
    return status or int(not all(report.is_kept for report in reports))


def _drill(name: str) -> Drill:
    """Return a drill. Each is imported when it is run: some need packages that others do not."""
    drill: Drill = import_module(f"drills.{name}").run
    return drill


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:12} {about}" for name, about in _DRILLS.items())
    parser = argparse.ArgumentParser(
        prog="python -m drills",
        description=f"{__doc__}\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("drill", nargs="*", metavar="drill", help="which; all without one")
    add("--seconds", type=float, default=30.0, help="how long each mistreats the service (30)")
    add("--seed", type=int, default=1, help="another seed tries other inputs (1)")
    add("--out", type=Path, default=Path("drills/out"), help="folder of logs and examples")
    add("--markdown", action="store_true", help="print the table at the end as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
