"""`python -m benchmarks.translation`: translation in flight, beside CTranslate2."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.translation.countdown import Sentence, sentences
from benchmarks.translation.findings import Findings
from benchmarks.translation.folders import prepare
from benchmarks.translation.promises import checks
from benchmarks.translation.statics import StaticPlan, measure_statics
from benchmarks.translation.streams import StreamPlan, measure_streams
from benchmarks.translation.tables import draw, show, write_json

_PARTS = ("static", "streams")
_BUSY = 0.3
_PIPED_WIDTH = 150
_SEED = 11


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0; with --strict 1 where a promise is not kept.
    """
    given = _parser().parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    found = Findings(machine.describe(), vars(given))
    if found.machine["load_before"] > _BUSY * found.machine["cores"]:
        console.print(f"[yellow]other programs are busy here (load {found.machine['load_before']})")
    static, streams = _plans(given)
    columns = (TextColumn("{task.description:56}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        steps = static.steps * ("static" in given.parts) + streams.steps * (
            "streams" in given.parts
        )
        bar = progress.add_task("making the models", total=steps)
        folders = prepare(given.out)

        def tell(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        if "static" in given.parts:
            found = replace(found, speeds=measure_statics(folders, static, tell))
        if "streams" in given.parts:
            found = measure_streams(folders, streams, given.out / "logs", found, tell)
    show(found, console)
    write_json(found, given.out / "translation.json")
    draw(found, given.out / "translation.png")
    console.print(f"written: {given.out / 'translation.json'}, {given.out / 'translation.png'}")
    return int(given.strict and not all(check.is_met for check in checks(found)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    add = parser.add_argument
    add("--parts", nargs="*", default=list(_PARTS), choices=_PARTS, metavar="NAME",
        help=f"which of {', '.join(_PARTS)}")  # fmt: skip
    add("--rounds", type=int, default=3, help="how often all is measured; medians count")
    add("--out", type=Path, default=Path("benchmarks/out"), help="where everything is written")
    add("--quick", action="store_true", help="to see that it works; no results")
    add("--strict", action="store_true", help="exit with 1 where a promise is not kept")
    return parser


def _plans(given: argparse.Namespace) -> tuple[StaticPlan, StreamPlan]:
    asked = sentences(200, _SEED)
    cores = machine.cores()
    if given.quick:
        few = asked[:16]
        static = StaticPlan(cores, 1, {1: few[:2], 8: few}, {8: few[:8]})
        return static, StreamPlan(asked[:48], 1, [(cores, 1, 32)])
    sized: dict[int, Sequence[Sentence]] = {1: asked[:24], 8: asked[:96], 32: asked[:192]}
    static = StaticPlan(cores, given.rounds, sized, {1: asked[:8], 8: asked[:32]})
    shapes = [(cores, 1), (1, cores)] if cores > 1 else [(1, 1)]
    tried = [(*shape, most) for shape in shapes for most in (16, 32, 64)]
    return static, StreamPlan(asked, given.rounds, tried)


if __name__ == "__main__":
    sys.exit(main())
