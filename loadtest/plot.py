"""Latency and throughput over time, as a picture."""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from loadtest.answers import Outcome
from loadtest.kinds import Kind
from loadtest.scenario import Scenario
from loadtest.summary import Samples
from loadtest.tally import Tally

_SHADES = ("#eef2f7", "#ffffff")
_OUTCOMES = (
    (Outcome.ANSWERED, "answered", "#2b6cb0"),
    (Outcome.REFUSED, "refused", "#d69e2e"),
    (Outcome.FAILED, "failed", "#c53030"),
)

_LATENCIES = (
    (0.5, "-", "#2b6cb0", "p50"),
    (0.95, "-", "#805ad5", "p95"),
    (1.0, ":", "#718096", "slowest"),
)


def draw(scenario: Scenario, tally: Tally) -> bytes:
    """Return a PNG: requests a second by outcome above, latencies by kind below."""
    samples = Samples(scenario, tally)
    kinds = samples.kinds()
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 2.8 + 1.9 * len(kinds)), layout="constrained")
        axes = figure.subplots(
            1 + len(kinds), 1, sharex=True, height_ratios=[1.5] + [1.0] * len(kinds)
        )
        for axis in axes:
            _shade_stages(axis, scenario)
        _draw_throughput(axes[0], samples)
        for axis, kind in zip(axes[1:], kinds, strict=True):
            _draw_latency(axis, samples, kind)
        axes[1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize="small")
        axes[-1].set_xlabel("seconds from the start, by when a request was due")
        axes[-1].set_xlim(0, scenario.seconds)
        output = io.BytesIO()
        figure.savefig(output, format="png", dpi=110)
    return output.getvalue()


def _shade_stages(axis: Any, scenario: Scenario) -> None:
    for number, (start, stage) in enumerate(zip(scenario.starts(), scenario.stages, strict=True)):
        axis.axvspan(start, start + stage.seconds, color=_SHADES[number % 2], zorder=0)
        settled = start + stage.settle_seconds
        axis.axvspan(start, settled, fc="none", ec="#cbd5e0", hatch="///", lw=0, zorder=0)
    axis.grid(alpha=0.3)


def _draw_throughput(axis: Any, samples: Samples) -> None:
    scenario = samples.scenario
    below = np.zeros(len(samples.edges) - 1)
    for outcome, name, colour in _OUTCOMES:
        rates = samples.rates(samples.ended(outcome))
        if rates.any():
            axis.stairs(
                below + rates, samples.edges, baseline=below, fill=True, color=colour, label=name
            )
        below = below + rates
    starts = [*scenario.starts(), scenario.seconds]
    intended = [stage.rate for stage in scenario.stages]
    axis.stairs(intended, starts, color="black", ls="--", label="intended", baseline=None)
    top = 1.15 * max([*intended, *below])  # leaves room for the legend
    for start, stage in zip(scenario.starts(), scenario.stages, strict=True):
        axis.text(start + 0.004 * scenario.seconds, top * 1.02, stage.name, va="bottom")
    axis.set_ylim(0, top)
    axis.set_ylabel("requests / s")
    axis.legend(loc="upper right", ncols=4, fontsize="small")


def _draw_latency(axis: Any, samples: Samples, kind: Kind) -> None:
    answered = samples.of(kind) & samples.ended(Outcome.ANSWERED)
    at = (samples.edges[:-1] + samples.edges[1:]) / 2
    for share, style, colour, name in _LATENCIES:
        values = samples.latencies(answered, share)
        axis.plot(at, values, style, color=colour, marker=".", ms=3, lw=1.2, label=name)
    _draw_level(axis, samples.scenario, kind)
    if answered.any():
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_title(kind.value, loc="left", fontsize="medium")
    axis.set_ylabel("ms")


def _draw_level(axis: Any, scenario: Scenario, kind: Kind) -> None:
    for number, (start, stage) in enumerate(zip(scenario.starts(), scenario.stages, strict=True)):
        axis.hlines(
            scenario.levels[stage.level][kind].p95_ms,
            start + stage.settle_seconds,
            start + stage.seconds,
            color="#c53030",
            lw=1,
            label="p95 allowed" if number == 0 else None,
        )
