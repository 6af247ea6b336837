"""What each precision costs and gains: a table, and a picture of quality against time and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.convert.graphs import size_of
from models.convert.optimise import Subject, seconds_of
from models.convert.parity import (
    Outputs,
    decoder_feeds,
    graph_outputs,
    largest_deviation,
    scale_of,
)
from models.convert.samples import Feeds
from models.evaluate.pictures import Point, draw_front, front


@dataclass(frozen=True, slots=True)
class Evidence:
    """One precision, measured on the sample inputs and this machine's CPU."""

    precision: str
    deviation: float
    """Largest |Δ| against PyTorch, over all outputs."""
    relative: float
    """The same as a share of the largest value that PyTorch gave."""
    agreement: float
    """Share of rows of logits whose largest entry is PyTorch's; of other outputs, the least
    cosine between a row and PyTorch's."""
    milliseconds: float
    """Of one batch of the samples through every graph once, on one thread."""
    megabytes: float


def weigh(subject: Subject, precision: str, graphs: Mapping[str, Path]) -> Evidence:
    """Measure the graphs of one precision."""
    given = graph_outputs(subject.checkpoint, graphs, subject.feeds)
    deviation = largest_deviation(subject.wanted, given)
    by_role = feeds_by_role(subject, graphs)
    seconds = sum(seconds_of([path], by_role[role])[0] for role, path in graphs.items())
    return Evidence(
        precision,
        deviation,
        deviation / max(scale_of(subject.wanted), 1e-12),
        agreement_of(subject.wanted, given),
        seconds * 1e3,
        sum(map(size_of, graphs.values())) / 1e6,
    )


def feeds_by_role(subject: Subject, graphs: Mapping[str, Path]) -> Mapping[str, Feeds]:
    """Return what each graph is fed when the samples go through all of them."""
    if subject.checkpoint.is_translator:
        return decoder_feeds(subject.checkpoint, graphs, subject.feeds)
    return {"model": subject.feeds}


def agreement_of(wanted: Outputs, given: Outputs) -> float:
    """Return the share of equal best entries of `logits`, or else the least cosine of rows."""
    if "logits" in wanted and "logits" in given and wanted["logits"].shape[-1] > 1:
        best = wanted["logits"].argmax(-1) == given["logits"].argmax(-1)
        return float(best.mean())
    common = wanted.keys() & given.keys()
    common = {name for name in common if name.endswith("_embeds")} or common
    return min(_least_cosine(wanted[name], given[name]) for name in common)


def _least_cosine(wanted: np.ndarray, given: np.ndarray) -> float:
    one = wanted.reshape(-1, wanted.shape[-1]).astype(np.float64)
    other = given.reshape(-1, given.shape[-1]).astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.min((one * other).sum(1) / np.maximum(lengths, 1e-12)))


def table_of(found: Sequence[Evidence]) -> str:
    """Return the evidence as a Markdown table, one row a precision."""
    lines = [
        "| precision | largest \\|Δ\\| | relative | agreement | ms a batch | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.precision} | {one.deviation:.2g} | {one.relative:.2g} | {one.agreement:.4f} "
        f"| {one.milliseconds:.2f} | {one.megabytes:.2f} |"
        for one in found
    ]
    return "\n".join(lines)


def best_of(found: Sequence[Evidence]) -> list[Evidence]:
    """Return the Pareto front: those that no other beats in parity, time and size at once."""
    kept = front([(one.deviation, one.milliseconds, one.megabytes) for one in found])
    return [one for one, is_best in zip(found, kept, strict=True) if is_best]


def draw(found: Sequence[Evidence], path: Path) -> None:
    """Draw deviation against time and against size; the Pareto front is filled."""
    points = [Point(one.precision, one.deviation, one.milliseconds, one.megabytes) for one in found]
    draw_front(points, path, "largest |Δ| against PyTorch", less=True)
