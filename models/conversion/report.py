"""What each precision costs and gains: a table, and a picture of quality against time and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.conversion.graphs import size_of
from models.conversion.optimise import Subject, seconds_of
from models.conversion.parity import (
    Outputs,
    decoder_feeds,
    graph_outputs,
    largest_deviation,
    scale_of,
)
from models.conversion.samples import Feeds


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

    def beats(one: Evidence, other: Evidence) -> bool:
        pairs = [
            (one.deviation, other.deviation),
            (one.milliseconds, other.milliseconds),
            (one.megabytes, other.megabytes),
        ]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [one for one in found if not any(beats(other, one) for other in found)]


def draw(found: Sequence[Evidence], path: Path) -> None:
    """Draw deviation against time and against size; the Pareto front is filled."""
    import matplotlib as mpl  # noqa: PLC0415 - loaded only where a picture is asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    front = best_of(found)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("milliseconds", "megabytes"), strict=True):
        for one in found:
            at = getattr(one, name), max(one.deviation, 1e-9)
            axis.plot(*at, "o", color="C0", fillstyle="full" if one in front else "none")
            axis.annotate(one.precision, at, xytext=(5, 4), textcoords="offset points")
        axis.set_yscale("log")
        axis.set_xlim(left=0)
    axes[0].set_ylabel("largest |Δ| against PyTorch")
    axes[0].set_xlabel("ms a batch of samples, CPU, one thread")
    axes[1].set_xlabel("MB of graphs")
    figure.savefig(path, dpi=120)
    plt.close(figure)
