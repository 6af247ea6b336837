"""Results as a picture: rates above, latencies below, one column a subject."""

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from benchmarks.results import Results, SubjectResult


def draw(results: Results, path: Path) -> None:
    """Write a PNG."""
    count = max(1, len(results.subjects))
    figure, axes = pyplot.subplots(2, count, figsize=(4.5 * count, 7), squeeze=False)
    for column, subject in enumerate(results.subjects):
        _draw_rates(axes[0][column], subject)
        _draw_latencies(axes[1][column], subject)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_rates(axis: Any, subject: SubjectResult) -> None:
    at = subject.concurrencies()
    series = {
        "Quartet": [median(r.quartet.rate for r in subject.at(c)) for c in at],
        "naive server": [median(r.naive.rate for r in subject.at(c)) for c in at],
        "in-process limit": [
            median((r.limit_before + r.limit_after) / 2 for r in subject.at(c)) for c in at
        ],
    }
    for (name, values), style in zip(series.items(), ("o-", "s-", "k--"), strict=True):
        axis.plot(at, values, style, label=name)
    if subject.bare:
        axis.axhline(subject.best_bare, color="grey", linestyle=":", label="best bare batch")
    _finish(axis, subject, "items/s")
    axis.set_ylim(bottom=0)


def _draw_latencies(axis: Any, subject: SubjectResult) -> None:
    at = subject.concurrencies()
    for name, colour in (("quartet", "C0"), ("naive", "C1")):
        for share, style in (("p50", "-"), ("p99", "--")):
            values = [
                1000 * median(getattr(getattr(r, name).answered, share) for r in subject.at(c))
                for c in at
            ]
            axis.plot(at, values, style, color=colour, label=f"{name} {share}")
    _finish(axis, subject, "ms")
    axis.set_yscale("log")


def _finish(axis: Any, subject: SubjectResult, unit: str) -> None:
    axis.set_title(subject.name)
    axis.set_xlabel("concurrency")
    axis.set_ylabel(unit)
    axis.set_xscale("log", base=2)
    axis.set_xticks(subject.concurrencies(), [str(c) for c in subject.concurrencies()])
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
