"""What one precision of an artefact turned out to be worth, and what is written of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluate.measures import Measure


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """How often each label (rows) was answered with each label (columns)."""

    labels: Sequence[str]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Findings:
    """The quality of answers. The first measure is the one that a picture shows; more is better."""

    measures: Sequence[Measure]
    by_label: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: Confusion | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One precision, measured through the service's own loader, batcher and family."""

    precision: str
    findings: Findings
    milliseconds: float
    """Median time of an item that is asked alone, preprocessing included."""
    megabytes: float
    deviation: float | None
    """From its goldens; None where it has none."""

    @property
    def columns(self) -> Sequence[Measure]:
        """Return everything that goes into a table, quality first."""
        own = [
            *self.findings.measures,
            Measure("ms an item, asked alone", self.milliseconds, 2),
            Measure("size of the graphs in MB", self.megabytes, 2),
        ]
        if self.deviation is not None:
            own.append(Measure("largest deviation from the goldens", self.deviation, 6))
        return own


def as_json(model: str, version: int, data: Path, results: Sequence[Result]) -> str:
    """Return all that was measured, unrounded, as a JSON text."""
    table = {
        "model": model,
        "version": version,
        "data": data.name,
        "precisions": {one.precision: _as_table(one) for one in results},
    }
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def _as_table(result: Result) -> Mapping[str, Any]:
    findings, confusion = result.findings, result.findings.confusion
    table: dict[str, Any] = {
        "measures": {measure.name: measure.value for measure in findings.measures},
        "milliseconds": result.milliseconds,
        "megabytes": result.megabytes,
        "deviation": result.deviation,
    }
    if findings.by_label:
        table["by_label"] = findings.by_label
    if confusion is not None:
        rows = confusion.counts.tolist()
        table["confusion"] = {"labels": list(confusion.labels), "counts": rows}
    return table
