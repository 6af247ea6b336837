"""`python -m benchmarks`: measures the service on this machine, and tells how it compares."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.distilbert import Arithmetic
from benchmarks.load import best_generator
from benchmarks.plot import draw
from benchmarks.report import show, write_json
from benchmarks.results import Results
from benchmarks.scenarios import Options, measure_cache, measure_overload, measure_subject
from benchmarks.starters import measure_starters
from benchmarks.subjects import SUBJECTS, Sources, Subject, prepare
from benchmarks.targets import checks

_OVERLOADED = "distilbert"
_EXTRAS = ("cache", "overload", "starters")
_BUSY = 0.3
_PIPED_WIDTH = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0; with --strict 1 where a promise is not kept; 2 where a model to measure is missing.
    """
    given = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    started = machine.describe()
    if started["load_before"] > _BUSY * started["cores"]:
        console.print(f"[yellow]other programs are busy here (load {started['load_before']})")
    options = _options(given)
    sources = Sources(given.out, given.starters, Arithmetic(given.int8))
    try:
        subjects = [prepare(name, sources) for name in given.subjects]
        extra = prepare(_OVERLOADED, sources)
    except FileNotFoundError as error:
        console.print(f"[red]{error}")
        return 2
    with _progress(console) as progress:
        steps = options.points() * len(subjects) + len(given.extras)
        bar = progress.add_task("", total=steps)

        def tell(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        found = [measure_subject(subject, options, tell) for subject in subjects]
        results = Results(started, vars(given), found)
        results = _measure_extras(given, options, (extra, results), tell)
    show(results, console)
    write_json(results, given.out / "results.json")
    draw(results, given.out / "results.png")
    console.print(f"written: {given.out / 'results.json'}, {given.out / 'results.png'}")
    return int(given.strict and not all(check.is_met for check in checks(results)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--subjects", nargs="*", default=list(SUBJECTS), choices=SUBJECTS, metavar="NAME",
        help=f"which of {', '.join(SUBJECTS)}")  # fmt: skip
    add("--extras", nargs="*", default=list(_EXTRAS), choices=_EXTRAS, metavar="NAME",
        help=f"which of {', '.join(_EXTRAS)}")  # fmt: skip
    add("--seconds", type=float, default=8.0, help="length of one measurement")
    add("--rounds", type=int, default=3, help="how often all is measured; medians count")
    add("--concurrency", type=int, nargs="+", default=[1, 8, 32, 64])
    add("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32], help="of the bare session")
    add("--generator", choices=("wrk", "client"), default=best_generator())
    add("--int8", choices=[a.value for a in Arithmetic], default=Arithmetic.ROWS.value,
        help="arithmetic of the DistilBERT-size subject")  # fmt: skip
    add("--starters", type=Path, default=Path("models/repository"), help="model repository")
    add("--out", type=Path, default=Path("benchmarks/out"), help="where everything is written")
    add("--quick", action="store_true", help="a few seconds, to see that it works; no results")
    add("--strict", action="store_true", help="exit with 1 where a promise is not kept")
    return parser


def _options(given: argparse.Namespace) -> Options:
    options = Options(
        given.seconds,
        given.rounds,
        sorted(given.concurrency),
        given.batches,
        machine.cores(),
        given.generator,
        given.out,
    )
    return replace(options, seconds=1.0, rounds=1, batches=[1, 4]) if given.quick else options


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:48}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not sys.stderr.isatty())


def _measure_extras(
    given: argparse.Namespace,
    options: Options,
    before: tuple[Subject, Results],
    tell: Callable[[str], None],
) -> Results:
    subject, results = before
    if "cache" in given.extras:
        tell("cache")
        results = replace(results, cache=measure_cache(subject, options))
    if "overload" in given.extras:
        tell("overload")
        found = measure_overload(subject, _capacity(results), options)
        results = replace(results, overload=found)
    if "starters" in given.extras:
        tell("starters")
        starts, idle = (1, 2.0) if given.quick else (3, 10.0)
        log = given.out / "logs" / "starters.log"
        results = replace(results, starters=measure_starters(given.starters, log, starts, idle))
    return results


def _capacity(results: Results) -> float:
    """Return what the overloaded subject answers a second; a guess if it was not measured."""
    found = results.subject(_OVERLOADED)
    known = found.rate_at(max(found.concurrencies())) if found else None
    return known or 250.0


if __name__ == "__main__":
    sys.exit(main())
