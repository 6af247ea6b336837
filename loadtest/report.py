"""A finished run as JSON, as a page, and in a few lines for the terminal."""

import base64
import html
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from loadtest.judge import Check, Judgement, Verdict
from loadtest.plot import draw
from loadtest.scenario import Scenario
from loadtest.summary import Row
from loadtest.tally import Tally

_SENTENCES = {
    Verdict.HELD: "The service level was held.",
    Verdict.BROKEN: "The service level was not held.",
    Verdict.INVALID: "The run is not valid: it says nothing about the service.",
}
_COLUMNS = ("stage", "kind", "sent", "answered", "refused", "failed", "from cache",
            "p50 ms", "p95 ms", "p99 ms", "slowest ms")  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a202c; background: #fff }
.table { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; white-space: nowrap }
th, td { text-align: left; padding: .25rem .9rem .25rem .4rem; border-bottom: 1px solid #e2e8f0 }
.number { text-align: right; font-variant-numeric: tabular-nums }
summary { cursor: pointer; font-weight: 600 }
tr.unmet { background: #fff0f0 } tr.unmet td:first-child { font-weight: 600 }
.held { color: #22643d } .broken { color: #9b2c2c } .invalid { color: #8a5a00 }
img { width: 100% }
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was run."""

    scenario: str
    host: str
    seed: int
    processes: int
    """That sent requests."""


def write(
    facts: Facts, scenario: Scenario, tally: Tally, judgement: Judgement, folder: Path
) -> None:
    """Write report.json, report.png and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw(scenario, tally)
    (folder / "report.png").write_bytes(picture)
    content = as_json(facts, scenario, tally, judgement)
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    (folder / "report.json").write_bytes(orjson.dumps(content, option=options))
    page = as_page(facts, scenario, tally, judgement, picture)
    (folder / "report.html").write_text(page, encoding="utf-8")


def as_json(facts: Facts, scenario: Scenario, tally: Tally, judgement: Judgement) -> dict[str, Any]:
    """Return everything but the single samples; numbers that do not exist are null."""
    return {
        "verdict": judgement.verdict.name.lower(),
        "reasons": [str(check) for check in judgement.unmet],
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": asdict(facts),
        "scenario": asdict(scenario),
        "checks": [asdict(check) for check in judgement.checks],
        "results": [asdict(row) for row in judgement.rows],
        "failures_and_refusals": dict(tally.reasons.most_common()),
    }


def show(facts: Facts, judgement: Judgement, tally: Tally, folder: Path) -> None:
    """Tell the result on standard output."""
    sys.stdout.write("\n".join([*as_lines(facts, judgement, tally), f"written: {folder}/", ""]))
    sys.stdout.flush()


def as_lines(facts: Facts, judgement: Judgement, tally: Tally) -> Iterable[str]:
    """Yield the result for a terminal: the numbers, then the verdict and its reasons."""
    cells = [_COLUMNS, *(_cells(row) for row in judgement.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    yield ""
    for line in cells:
        texts = [cell.ljust(w) for cell, w in zip(line[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(w) for cell, w in zip(line[2:], widths[2:], strict=True)]
        yield "  ".join([*texts, *numbers])
    yield ""
    for reason, count in tally.reasons.most_common(10):
        yield f"{count} x {reason}"
    yield f"{facts.scenario}: {_SENTENCES[judgement.verdict]}"
    for check in judgement.unmet:
        yield f"  {check}"


def as_page(
    facts: Facts, scenario: Scenario, tally: Tally, judgement: Judgement, picture: bytes
) -> str:
    """Return the report as one HTML page that needs nothing else."""
    verdict = judgement.verdict
    image = base64.b64encode(picture).decode()
    run = f"{facts.host}, seed {facts.seed}, {facts.processes} generator process(es)"
    parts = [
        f"<h1>Load test: {html.escape(facts.scenario)}</h1>",
        f'<p><strong class="{verdict.name.lower()}">{_SENTENCES[verdict]}</strong></p>',
        f"<p>{html.escape(scenario.about)}</p>",
        f"<p>{html.escape(run)}, finished {datetime.now(UTC):%Y-%m-%d %H:%M} UTC</p>",
        *([_checks_table("unmet", judgement.unmet)] if judgement.unmet else []),
        f'<img alt="throughput and latency over time" src="data:image/png;base64,{image}">',
        "<h2>Requests by stage and kind</h2>",
        "<p>Latency is of answers, counted from when a request was due.</p>",
        _table(_COLUMNS, [_cells(row) for row in judgement.rows], 2),
    ]
    if tally.reasons:
        counted = [(reason, str(count)) for reason, count in tally.reasons.most_common()]
        parts += ["<h2>Refusals and failures</h2>", _table(("what", "times"), counted, 1)]
    met = [check for check in judgement.checks if check.is_met]
    parts.append(
        f"<h2>Checks</h2><details><summary>{len(met)} of {len(judgement.checks)} were met</summary>"
        f"{_checks_table('met', met)}</details>"
    )
    title = f"Load test: {html.escape(facts.scenario)}"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _checks_table(which: str, checks: Sequence[Check]) -> str:
    """Return a table of checks that all are `unmet`, or all `met`."""
    rows = [(check.name, check.found, check.allowed) for check in checks]
    return _table(("check", "found", "allowed"), rows, 3, which)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int, mark: str = "") -> str:
    """Return a table whose first columns are texts and whose others are numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ["" if column < texts else ' class="number"' for column in range(len(cells))]
        pairs = zip(kinds, cells, strict=True)
        return "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for kind, cell in pairs)

    first = f"<tr>{line('th', head)}</tr>"
    rest = "".join(f'<tr class="{mark}">{line("td", row)}</tr>' for row in rows)
    return f'<div class="table"><table>{first}{rest}</table></div>'


def _cells(row: Row) -> Sequence[str]:
    latency = row.latency
    times = (latency.p50, latency.p95, latency.p99, latency.most)
    return (
        row.stage,
        row.kind.value,
        *(str(count) for count in (row.sent, row.answered, row.refused, row.failed)),
        f"{row.reused:.0%}",
        *("-" if math.isnan(value) else f"{value:.1f}" for value in times),
    )
