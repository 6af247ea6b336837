"""`python -m benchmarks.translation`: in-flight translation compared with CTranslate2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.translation.findings import Findings
from benchmarks.translation.promises import checks
from benchmarks.translation.starter import SUBJECT as STARTER
from benchmarks.translation.statics import Batches, StaticPlan, measure_statics
from benchmarks.translation.streams import StreamPlan, measure_streams
from benchmarks.translation.subjects import SUBJECTS, Subject, prepare
from benchmarks.translation.tables import draw, show, write_json

_PARTS = ("static", "streams")
_BUSY = 0.3
_PIPED_WIDTH = 150
_QUICK = 16
_QUICK_STREAM = 48


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0; with --strict 1 where a promise is not kept.
    """
    given = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    before = Findings(machine.describe(), vars(given))
    if before.machine["load_before"] > _BUSY * before.machine["cores"]:
        console.print(
            f"[yellow]other programs are busy here (load {before.machine['load_before']})"
        )
    columns = (TextColumn("{task.description:56}"), SpinnerColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("")

        def tell(what: str) -> None:
            progress.update(task, description=what)

        found = [_measured(name, given, before, tell) for name in given.subjects]
    for findings in found:
        show(findings, console)
        draw(findings, given.out / f"translation-{findings.subject}.png")
    write_json(found, given.out / "translation.json")
    console.print(f"written: {given.out / 'translation.json'}, {given.out / 'translation-*.png'}")
    kept = all(check.is_met for findings in found for check in checks(findings))
    return int(given.strict and not kept)


def _measured(
    name: str, given: argparse.Namespace, before: Findings, tell: Callable[[str], None]
) -> Findings:
    tell(f"making {name}")
    subject = prepare(name, given.out)
    static, streams = _plans(subject, given)
    found = replace(before, subject=name, note=subject.note, exact=subject.exact)
    if "static" in given.parts:
        found = replace(found, speeds=measure_statics(subject, static, tell))
    if "streams" in given.parts:
        found = measure_streams(subject, streams, given.out / "logs" / name, found, tell)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    add = parser.add_argument
    add("--subjects", nargs="*", default=list(SUBJECTS), choices=SUBJECTS, metavar="NAME",
        help=f"which of {', '.join(SUBJECTS)}")  # fmt: skip
    add("--parts", nargs="*", default=list(_PARTS), choices=_PARTS, metavar="NAME",
        help=f"which of {', '.join(_PARTS)}")  # fmt: skip
    add("--rounds", type=int, default=3, help="how often all is measured; medians count")
    add("--out", type=Path, default=Path("benchmarks/out"), help="where everything is written")
    add("--quick", action="store_true", help="to see that it works; no results")
    add("--strict", action="store_true", help="exit with 1 where a promise is not kept")
    return parser


def _plans(subject: Subject, given: argparse.Namespace) -> tuple[StaticPlan, StreamPlan]:
    asked, cores, rounds = subject.questions, machine.cores(), given.rounds
    if given.quick:
        few = asked[:_QUICK]
        batches = [Batches(1, 1, 1, few[:2]), Batches(8, 1, 1, few), Batches(8, 4, 1, few[:8])]
        stream = StreamPlan(subject.streamed[:_QUICK_STREAM], 1, [(cores, 1, 32)])
        return StaticPlan(cores, batches), stream
    if subject.name == STARTER:
        batches = [Batches(size, beams, rounds, asked) for beams in (1, 4) for size in (1, 8, 32)]
    else:
        greedy = {1: asked[:24], 8: asked[:96], 32: asked[:192]}
        beamed = {1: asked[:8], 8: asked[:32]}
        batches = [Batches(size, 1, rounds, some) for size, some in greedy.items()]
        batches += [Batches(size, 4, 1, some) for size, some in beamed.items()]
    shapes = [(cores, 1), (1, cores)] if cores > 1 else [(1, 1)]
    tried = [(*shape, most) for shape in shapes for most in (16, 32, 64)]
    return StaticPlan(cores, batches), StreamPlan(subject.streamed, rounds, tried)


if __name__ == "__main__":
    sys.exit(main())
