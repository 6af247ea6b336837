"""Findings for people (tables, a picture) and for programs (JSON)."""

from collections.abc import Sequence
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
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, Findings
from benchmarks.translation.promises import checks

_COLOURS = {QUARTET: "C0", CTRANSLATE2: "C1", PLAIN: "C2"}


def show(findings: Findings, console: Console) -> None:
    """Print every table."""
    if findings.speeds:
        console.print(static_table(findings))
    if findings.streams:
        console.print(stream_table(findings))
    console.print(promise_table(checks(findings)))


def write_json(findings: Findings, path: Path) -> None:
    """Write everything that was measured, and which promises are kept."""
    kept = [
        {**asdict(check), "is_met": check.is_met, "text": str(check)} for check in checks(findings)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = asdict(findings) | {"checks": kept}
    path.write_bytes(orjson.dumps(content, default=str, option=orjson.OPT_INDENT_2))


def static_table(findings: Findings) -> Table:
    """Return one row a batch size, beams and shape; rates are medians of the rounds."""
    table = Table(title="static batches: target tokens a second")
    headings = ("beams", "batch", "workers x threads", QUARTET, CTRANSLATE2, "ratio")
    for heading in (*headings, f"{QUARTET} a core", f"{CTRANSLATE2} a core"):
        table.add_column(heading, justify="right")
    keys = dict.fromkeys((s.beams, s.batch, s.workers, s.threads) for s in findings.speeds)
    for beams, batch, workers, threads in keys:
        by_engine = {
            s.engine: s
            for s in findings.speeds
            if (s.beams, s.batch, s.workers, s.threads) == (beams, batch, workers, threads)
        }
        ours, theirs = by_engine[QUARTET], by_engine[CTRANSLATE2]
        table.add_row(
            str(beams),
            str(batch),
            f"{workers} x {threads}",
            f"{ours.rate:.0f}",
            f"{theirs.rate:.0f}",
            f"{ours.rate / theirs.rate:.2f}",
            f"{median(ours.per_core):.0f}",
            f"{median(theirs.per_core):.0f}",
        )
    return table


def stream_table(findings: Findings) -> Table:
    """Return one row a server; each number is the median of the rounds."""
    table = Table(title="sentences one by one, over HTTP")
    for heading in ("server", "tokens/s at saturation", "mean ms", "p95 ms", "resident MiB"):
        table.add_column(heading, justify="right")
    for engine in (QUARTET, CTRANSLATE2, PLAIN):
        mean, p95 = (findings.latency(engine, of) for of in ("mean", "p95"))
        table.add_row(
            engine,
            f"{findings.saturated(engine) or 0:.0f}",
            f"{1000 * mean:.0f}" if mean else "",
            f"{1000 * p95:.0f}" if p95 else "",
            f"{findings.resident.get(engine, 0):.0f}",
        )
    workers, threads, most = findings.reference
    offered = median(stream.offered for stream in findings.streams if stream.offered)
    table.caption = (
        f"CTranslate2: {workers} workers of {threads} threads, batches of at most {most}; "
        f"latencies at {offered:.1f} sentences a second"
    )
    return table


def promise_table(found: Sequence[Check]) -> Table:
    """Return one row a promise."""
    table = Table(title="promises")
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
    for number, engine in enumerate((QUARTET, CTRANSLATE2)):
        fastest = [findings.fastest(engine, size) for size in sizes]
        places = [place + 0.4 * number for place in range(len(sizes))]
        rates = [speed.rate if speed else 0.0 for speed in fastest]
        axis.bar(places, rates, 0.38, label=engine, color=_COLOURS[engine])
    axis.set_xticks([place + 0.2 for place in range(len(sizes))], [str(size) for size in sizes])
    axis.set_xlabel("batch size")
    axis.set_ylabel("target tokens/s, greedy, fastest workers")
    axis.legend(fontsize="small")


def _draw_latencies(axis: Any, findings: Findings) -> None:
    for engine in (QUARTET, CTRANSLATE2):
        seen = sorted(
            1000 * latency
            for stream in findings.streams
            if stream.engine == engine and stream.offered
            for latency in stream.latencies
        )
        shares = [(rank + 1) / len(seen) for rank in range(len(seen))]
        axis.plot(seen, shares, label=engine, color=_COLOURS[engine])
    axis.set_xlabel("latency at 80 % of CTranslate2's capacity, ms")
    axis.set_ylabel("share of sentences")
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
