"""Results for people (tables) and for programs (JSON)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.results import Results, SubjectResult
from benchmarks.targets import checks

HEADINGS = (
    "concurrency", "limit/s", "naive/s", "quartet/s", "of limit", "of best bare",
    "naive of limit", "p50 ms", "p99 ms", "p99/p50", "mean batch", "generator cpu",
)  # fmt: skip


def write_json(results: Results, path: Path) -> None:
    """Write everything that was measured, and which promises are kept."""
    kept = [
        {**asdict(check), "is_met": check.is_met, "text": str(check)} for check in checks(results)
    ]
    rows = {
        subject.name: [
            dict(zip(HEADINGS, subject_row(subject, concurrency), strict=True))
            for concurrency in subject.concurrencies()
        ]
        for subject in results.subjects
    }
    content = asdict(results) | {"summary": rows, "checks": kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    path.write_bytes(orjson.dumps(content, default=str, option=options))


def show(results: Results, console: Console) -> None:
    """Print every table."""
    for subject in results.subjects:
        console.print(subject_table(subject))
        console.print(inside_table(subject))
        if subject.bare:
            console.print(bare_table(subject))
    for line in summary_lines(results):
        console.print(line)
    console.print(checks_table(results))


def subject_table(subject: SubjectResult) -> Table:
    """Return one row a concurrency; each number is the median of the rounds."""
    table = Table(title=f"{subject.name}: closed loop, cache off")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for concurrency in subject.concurrencies():
        table.add_row(*subject_row(subject, concurrency))
    ready, loaded, naive = subject.ready_memory, subject.loaded_memory, subject.naive_memory
    table.caption = (
        f"resident MiB: ready {ready.rss:.0f}, after the load {loaded.rss:.0f} "
        f"(pss {loaded.pss:.0f}), naive {naive.rss:.0f}; "
        f"answers as the naive server's: {subject.same_answers:.0%}"
    )
    return table


def subject_row(subject: SubjectResult, concurrency: int) -> Sequence[str]:
    """Return the cells of one concurrency."""
    readings = subject.at(concurrency)
    rate = median(reading.quartet.rate for reading in readings)
    p50 = median(reading.quartet.answered.p50 for reading in readings)
    p99 = median(reading.quartet.answered.p99 for reading in readings)
    bare = subject.best_bare
    return [
        str(concurrency),
        f"{median((r.limit_before + r.limit_after) / 2 for r in readings):.1f}",
        f"{median(r.naive.rate for r in readings):.1f}",
        f"{rate:.1f}",
        f"{median(r.ratio for r in readings):.3f}",
        f"{rate / bare:.3f}" if bare else "-",
        f"{median(r.naive_ratio for r in readings):.3f}",
        f"{1000 * p50:.2f}",
        f"{1000 * p99:.2f}",
        f"{p99 / p50:.2f}" if p50 else "-",
        f"{median(r.inside.mean_batch for r in readings):.2f}",
        f"{median(r.quartet.generator_cpu for r in readings):.3f}",
    ]


def inside_table(subject: SubjectResult) -> Table:
    """Return where the time went, a row a concurrency."""
    table = Table(title=f"{subject.name}: inside the service")
    for heading in (
        "concurrency", "queue ms", "batch ms", "batches at once", "padding", "cores used",
        "event loop µs/item",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for concurrency in subject.concurrencies():
        inside = [reading.inside for reading in subject.at(concurrency)]
        table.add_row(
            str(concurrency),
            f"{1000 * median(i.queue for i in inside):.2f}",
            f"{1000 * median(i.compute for i in inside):.2f}",
            f"{median(i.running for i in inside):.2f}",
            f"{median(i.padding for i in inside):.1%}",
            f"{median(i.cpu for i in inside):.2f}",
            f"{1e6 * median(i.loop_per_item for i in inside):.0f}",
        )
    return table


def bare_table(subject: SubjectResult) -> Table:
    """Return the bare session's rates."""
    table = Table(title=f"{subject.name}: bare session, items/s")
    for heading in ("batch", "1 thread a core, alike", "as they come", "1 session, all threads"):
        table.add_column(heading, justify="right")
    for bare in subject.bare:
        cells = (bare.alike, bare.as_they_come, bare.wide)
        table.add_row(str(bare.batch), *(f"{cell:.1f}" for cell in cells))
    return table


def summary_lines(results: Results) -> Sequence[str]:
    """Return a line for everything that is no table."""
    lines = [
        f"{subject.name} idle p50: HTTP {1000 * idle.http_p50:.2f} ms, session of all threads "
        f"{1000 * idle.wide_p50:.2f} ms, of one {1000 * idle.narrow_p50:.2f} ms"
        for subject in results.subjects
        for idle in subject.idle
    ]
    if (cache := results.cache) is not None:
        lines.append(
            f"cache: {cache.load.rate:.0f} requests/s, {cache.hit_share:.1%} hits, "
            f"p99 {1000 * cache.load.answered.p99:.2f} ms"
        )
    if (over := results.overload) is not None:
        lines.append(
            f"overload: {over.offered:.0f} requests/s offered; {over.over.answered.count} answered "
            f"(p99 {1000 * over.over.answered.p99:.0f} ms; full queue "
            f"{1000 * over.within.answered.p99:.0f} ms), {over.refused} refused (p99 "
            f"{1000 * over.refusal_p99:.1f} ms, slowest {1000 * over.slowest_refusal:.1f} ms)"
        )
    if (starters := results.starters) is not None:
        lines.append(
            f"starters ({', '.join(starters.models)}): ready in "
            f"{', '.join(f'{s:.1f}' for s in starters.ready_seconds)} s; resident "
            f"{starters.ready_memory.rss:.0f} MiB, after use {starters.used_memory.rss:.0f} MiB "
            f"(pss {starters.used_memory.pss:.0f}); idle {starters.idle_cpu:.2%} of a core"
        )
    return lines


def checks_table(results: Results) -> Table:
    """Return every promise, and whether it is kept."""
    table = Table(title="promises")
    table.add_column("promise")
    for heading in ("measured", "bound", ""):
        table.add_column(heading, justify="right")
    for check in checks(results):
        sign = "≥" if check.is_least else "≤"
        verdict = "[green]kept[/]" if check.is_met else "[bold red]missed[/]"
        measured = f"{check.measured:.4g} {check.unit}".rstrip()
        table.add_row(check.promise, measured, f"{sign} {check.bound:g}", verdict)
    return table
