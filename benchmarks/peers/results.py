"""What a run of the peers' benchmark found, as a table, as JSON and as a picture."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import orjson
from rich.table import Table

matplotlib.use("Agg")

from matplotlib import pyplot


@dataclass(frozen=True, slots=True)
class Reading:
    """One server under one load, once."""

    subject: str
    server: str
    batch: int | None
    """Most items of a batch; None where the server decides."""
    concurrency: int
    rate: float
    """Answers a second."""
    limit: float
    """Answers a second with no service around the model, in the same minute."""
    p50: float
    p99: float
    """Seconds."""

    @property
    def ratio(self) -> float:
        """Return the rate in units of the limit."""
        return self.rate / self.limit


@dataclass(frozen=True, slots=True)
class Footprint:
    """A server after its loads."""

    subject: str
    server: str
    batch: int | None
    pss: float
    """MiB of all its processes."""
    agreement: float
    """Share of the compared answers that say the same as the naive server's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A server at one concurrency: medians of the rounds, at its best size of batch."""

    ratio: float
    rate: float
    p99: float
    batch: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """A whole run."""

    machine: dict[str, Any]
    readings: list[Reading]
    footprints: list[Footprint]

    def subjects(self) -> Sequence[str]:
        """Return their names in the order of the run."""
        return _distinct(reading.subject for reading in self.readings)

    def servers(self) -> Sequence[str]:
        """Return their names in the order in which they were started."""
        return _distinct(one.server for one in self.footprints)

    def concurrencies(self) -> Sequence[int]:
        """Return them in ascending order."""
        return sorted({reading.concurrency for reading in self.readings})

    def cell(self, subject: str, server: str, concurrency: int) -> Cell:
        """Return the medians of the size of batch with the best ratio to the limit."""
        by_batch: dict[int | None, list[Reading]] = {}
        for one in self.readings:
            if (one.subject, one.server, one.concurrency) == (subject, server, concurrency):
                by_batch.setdefault(one.batch, []).append(one)
        cells = [
            Cell(
                median(one.ratio for one in found),
                median(one.rate for one in found),
                median(one.p99 for one in found),
                batch,
            )
            for batch, found in by_batch.items()
        ]
        return max(cells, key=lambda cell: cell.ratio)


def _distinct(names: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(names))


def table(found: Found, subject: str) -> Table:
    """Return a row for each server, and a column for each concurrency."""
    result = Table(title=f"{subject}: ratio to the limit / p99 in ms (best size of batch)")
    result.add_column("server")
    for concurrency in found.concurrencies():
        result.add_column(f"c={concurrency}", justify="right")
    result.add_column("PSS MiB", justify="right")
    for server in found.servers():
        cells = [found.cell(subject, server, c) for c in found.concurrencies()]
        sizes = [
            one.pss for one in found.footprints if (one.subject, one.server) == (subject, server)
        ]
        shown = [
            f"{cell.ratio:.2f} / {1000 * cell.p99:.1f}" + (f" ({cell.batch})" if cell.batch else "")
            for cell in cells
        ]
        result.add_row(server, *shown, " to ".join(f"{s:.0f}" for s in sorted({*sizes})))
    return result


def write_json(found: Found, path: Path) -> None:
    """Write every reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(asdict(found), default=str, option=orjson.OPT_INDENT_2))


def draw(found: Found, path: Path) -> None:
    """Write a PNG: ratios to the limit above, p99 below, a column for each subject."""
    subjects = found.subjects()
    figure, axes = pyplot.subplots(2, len(subjects), figsize=(5 * len(subjects), 7), squeeze=False)
    at = found.concurrencies()
    for column, subject in enumerate(subjects):
        for server in found.servers():
            cells = [found.cell(subject, server, c) for c in at]
            axes[0][column].plot(at, [cell.ratio for cell in cells], "o-", label=server)
            axes[1][column].plot(at, [1000 * cell.p99 for cell in cells], "o-", label=server)
        axes[0][column].axhline(1.0, color="grey", linestyle=":")
        axes[0][column].set(title=subject, ylabel="rate / in-process limit", ylim=(0, None))
        axes[1][column].set(ylabel="p99, ms", yscale="log")
        for axis in (axes[0][column], axes[1][column]):
            axis.set_xscale("log", base=2)
            axis.set_xticks(at, [str(c) for c in at])
            axis.set_xlabel("concurrency")
            axis.grid(alpha=0.3)
            axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
