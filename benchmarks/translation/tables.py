"""Findings for people (tables, a picture) and for programs (JSON)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")

import orjson
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from benchmarks.targets import Check
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, QUARTET_INT8, Findings
from benchmarks.translation.promises import checks, fastest_ratios

_COLOURS = {QUARTET: "C0", CTRANSLATE2: "C1", PLAIN: "C2", QUARTET_INT8: "C3"}


def show(findings: Findings, console: Console) -> None:
    """Print every table."""
    if findings.speeds:
        console.print(static_table(findings))
    if findings.streams:
        console.print(stream_table(findings))
    console.print(promise_table(findings.subject, checks(findings)))


def write_json(found: Sequence[Findings], path: Path) -> None:
    """Write everything that was measured, by subject, and which promises are kept."""
    content = {findings.subject: _as_json(findings) for findings in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    path.write_bytes(orjson.dumps(content, default=str, option=options))


def _as_json(findings: Findings) -> Mapping[str, Any]:
    kept = [
        {**asdict(check), "is_met": check.is_met, "text": str(check)} for check in checks(findings)
    ]
    return asdict(findings) | {"checks": kept, "fastest_ratios": fastest_ratios(findings)}


def static_table(findings: Findings) -> Table:
    """Return one row a batch size, beams and shape; rates are medians of the rounds."""
    table = Table(title=f"{findings.subject}, static batches: target tokens a second")
    engines = list(dict.fromkeys(speed.engine for speed in findings.speeds))
    ours = [engine for engine in engines if engine != CTRANSLATE2]
    for heading in (
        *("beams", "batch", "workers x threads", *engines),
        *(f"{engine} ratio" for engine in ours),
        *("a core", "right %"),
    ):
        table.add_column(heading, justify="right")
    for key in dict.fromkeys((s.beams, s.batch, s.workers, s.threads) for s in findings.speeds):
        speeds = {
            s.engine: s for s in findings.speeds if (s.beams, s.batch, s.workers, s.threads) == key
        }
        beams, batch, workers, threads = key
        table.add_row(
            *(str(beams), str(batch), f"{workers} x {threads}"),
            *(f"{speeds[engine].rate:.0f}" for engine in engines),
            *(f"{speeds[engine].rate / speeds[CTRANSLATE2].rate:.2f}" for engine in ours),
            " / ".join(f"{median(speeds[engine].per_core):.0f}" for engine in engines),
            " / ".join(f"{100 * speeds[engine].right:.4g}" for engine in engines),
        )
    ratios = [f"{size}: {ratio:.2f}" for size, ratio in fastest_ratios(findings).items()]
    table.caption = (
        f"{findings.note}; greedy, each engine's fastest shape, {QUARTET} over {CTRANSLATE2} "
        f"(nothing is promised of it): {', '.join(ratios)}"
    )
    return table


def stream_table(findings: Findings) -> Table:
    """Return one row a server and number of beams; each number is the median of the rounds."""
    table = Table(title=f"{findings.subject}, sentences one by one, over HTTP")
    headings = (
        "beams",
        "server",
        "tokens/s at saturation",
        "mean ms",
        "p95 ms",
        "right %",
        "refused",
    )
    for heading in (*headings, "resident MiB"):
        table.add_column(heading, justify="right")
    keys = dict.fromkeys((stream.beams, stream.engine) for stream in findings.streams)
    for beams, engine in keys:
        mean, p95 = (findings.latency(engine, of, beams) for of in ("mean", "p95"))
        table.add_row(
            str(beams),
            engine,
            f"{findings.saturated(engine, beams) or 0:.0f}",
            f"{1000 * mean:.1f}" if mean else "",
            f"{1000 * p95:.1f}" if p95 else "",
            f"{100 * findings.right(engine, beams):.4g}",
            str(findings.refused(engine, beams)),
            f"{findings.resident.get(engine, 0):.0f}",
        )
    table.caption = "; ".join(_reference(findings, beams) for beams in findings.reference)
    return table


def _reference(findings: Findings, beams: int) -> str:
    workers, threads, most = findings.reference[beams]
    offered = median(s.offered for s in findings.streams if s.offered and s.beams == beams)
    return (
        f"beams {beams}: CTranslate2 with {workers} workers of {threads} threads, batches of at "
        f"most {most}; latencies at {offered:.1f} sentences a second"
    )


def promise_table(subject: str, found: Sequence[Check]) -> Table:
    """Return one row a promise."""
    table = Table(title=f"{subject}: promises")
    for heading in ("promise", "measured", "wanted", ""):
        table.add_column(heading)
    for check in found:
        sign = "at least" if check.is_least else "at most"
        table.add_row(
            check.promise,
            f"{check.measured:.3g} {check.unit}",
            f"{sign} {check.bound:g}",
            "[green]kept" if check.is_met else "[red]missed",
        )
    return table


def draw(findings: Findings, path: Path) -> None:
    """Write a PNG."""
    figure, (static, latencies) = pyplot.subplots(1, 2, figsize=(10, 4))
    _draw_statics(static, findings)
    _draw_latencies(latencies, findings)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_statics(axis: Any, findings: Findings) -> None:
    sizes = sorted({speed.batch for speed in findings.speeds if speed.beams == 1})
    engines = list(dict.fromkeys(speed.engine for speed in findings.speeds))
    width = 0.8 / max(len(engines), 1)
    for number, engine in enumerate(engines):
        fastest = [findings.fastest(engine, size) for size in sizes]
        places = [place + width * number for place in range(len(sizes))]
        rates = [speed.rate if speed else 0.0 for speed in fastest]
        axis.bar(places, rates, 0.95 * width, label=engine, color=_COLOURS[engine])
    axis.set_xticks([place + 0.2 for place in range(len(sizes))], [str(size) for size in sizes])
    axis.set_xlabel("batch size")
    axis.set_ylabel("target tokens/s, greedy, fastest workers")
    if engines:
        axis.legend(fontsize="small")


def _draw_latencies(axis: Any, findings: Findings) -> None:
    beams = max((stream.beams for stream in findings.streams), default=1)
    arrivals = [s for s in findings.streams if s.offered and s.beams == beams]
    for engine in dict.fromkeys(stream.engine for stream in arrivals):
        seen = sorted(
            1000 * latency
            for stream in arrivals
            if stream.engine == engine
            for latency in stream.latencies
        )
        shares = [(rank + 1) / len(seen) for rank in range(len(seen))]
        axis.plot(seen, shares, label=engine, color=_COLOURS[engine])
    axis.set_xlabel(f"latency at 80 % of CTranslate2's capacity, ms, beams: {beams}")
    axis.set_ylabel("share of sentences")
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    if arrivals:
        axis.legend(fontsize="small")
