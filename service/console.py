"""What the command line shows of models, as tables. Loads and asks nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from service.registry.status import VersionStatus
from service.repository.manifest import MANIFEST_NAME, Manifest
from service.repository.repository import Unusable, VersionFiles

_SHORT_DIGEST = 12
_KIB = 1024
_LONGEST_VALUE = 60
"""Characters; the labels of ImageNet would fill the screen."""


@dataclass(frozen=True, slots=True)
class Check:
    """What became of loading one model."""

    model: str
    files: VersionFiles | None
    """None if not even its files could be read."""
    status: VersionStatus | None
    """None if it could not be loaded."""
    reason: str | None = None
    """Why not."""

    @property
    def passed(self) -> bool:
        """Tell whether it would serve."""
        return self.status is not None


def version_table(found: Sequence[VersionFiles | Unusable]) -> Table:
    """Return the versions on disk; of precisions, the one that would be loaded is marked."""
    table = _table("model", "version", "task", "family", "precisions", "size", "digest", "goldens")
    for one in found:
        if isinstance(one, Unusable):
            table.add_row(escape(one.model), str(one.version or "-"), "[red]broken[/red]")
            continue
        precisions = " ".join(
            f"[bold]{name}*[/bold]" if name == one.precision else name
            for name in sorted(one.manifest.graphs)
        )
        table.add_row(
            one.model,
            str(one.version),
            one.manifest.task,
            one.manifest.family,
            precisions,
            _size(one.size_bytes),
            one.digest[:_SHORT_DIGEST],
            str(len(one.goldens)),
        )
    return table


def is_inferred(files: VersionFiles) -> bool:
    """Return whether files other than model.toml provided values of the manifest."""
    return any(source != MANIFEST_NAME for source in files.sources.values())


def source_table(files: VersionFiles) -> Table:
    """Return every key of the manifest that has a source: its value, and the file it is from."""
    title = f"{files.model}/{files.version}: what was inferred, and from which file"
    table = Table("key", "value", "from", title=title, title_justify="left")
    for key, source in sorted(files.sources.items()):
        table.add_row(Text(key), Text(_shown(_value(files.manifest, key))), Text(source))
    return table


def reasons(found: Sequence[VersionFiles | Unusable | Check]) -> Iterator[Text]:
    """Return a sentence for each that cannot be used: too long for a cell."""
    for one in found:
        if isinstance(one, Unusable):
            name = one.model if one.version is None else f"{one.model}/{one.version}"
            reason = one.reason.removeprefix(f"{name}: ")
            yield Text(f"{name}: {reason}", style="red")
        elif isinstance(one, Check) and not one.passed:
            reason = (one.reason or "").removeprefix(f"{one.model}: ")
            yield Text(f"{one.model}: {reason}", style="red")


def parity_table(checks: Sequence[Check]) -> Table:
    """Return how far each model's answers are from its goldens, and what was allowed."""
    table = _table(
        "model",
        "version",
        "precision",
        "device",
        "load",
        "goldens",
        "deviation",
        "allowed",
        "flips",
        "batched",
        "check",
    )
    for check in checks:
        verdict = "[green]passed[/green]" if check.passed else "[red]failed[/red]"
        table.add_row(escape(check.model), *_parity(check), verdict)
    return table


def curve_tables(status: VersionStatus) -> Iterator[Table]:
    """Return, a lane each, the measured milliseconds of a batch; the best size is marked."""
    for lane, measured in (status.statistics or {}).items():
        curve = measured["curve"]
        sizes = list(dict.fromkeys(rows for point in curve for rows in point["milliseconds"]))
        title = f"{status.model}/{status.version} {lane}: milliseconds of a batch, by its items"
        table = Table("length", *sizes, "best size", title=title, title_justify="left")
        for point in curve:
            cells = [f"{point['milliseconds'][rows]:.3f}" for rows in sizes]
            table.add_row(str(point["length"]), *cells, f"[bold]{point['favoured_batch']}[/bold]")
        yield table


def candidate_table(checks: Sequence[Check]) -> Table | None:
    """Return what could compute each model, and what was found out; None if nothing was chosen."""
    table = _table(
        "model", "provider", "precision", "computes in", "sessions", "deviation", "time", "verdict"
    )
    for check in checks:
        for one in () if check.status is None else check.status.candidates:
            verdict = one.verdict.replace("_", " ")
            table.add_row(
                escape(check.model),
                one.provider,
                one.precision,
                one.inference_precision,
                " ".join(one.sessions),
                "-" if one.deviation is None else f"{one.deviation:.2g}",
                "-" if one.ratio is None else f"{one.ratio:.2f}",
                Text(f"{verdict}: {one.reason}" if one.reason else verdict),
            )
    return table if table.rows else None


def _parity(check: Check) -> list[str]:
    files, status = check.files, check.status
    if files is None:
        return ["-"] * 9
    shown = [str(files.version), files.precision]
    if status is None:
        return [*shown, "-", "-", str(len(files.goldens)), "-", f"{files.tolerance:g}", "-", "-"]
    parity = status.parity
    return [
        *shown,
        status.device or "-",
        f"{status.load_seconds or 0:.2f} s",
        str(len(files.goldens)),
        "-" if parity is None else f"{parity.deviation:.2g}",
        f"{files.tolerance:g}",
        "-" if parity is None else str(parity.flips),
        "-" if parity is None else f"{parity.batch_deviation:.2g}",
    ]


def _value(manifest: Manifest, key: str) -> object:
    """Return what a dotted key of the manifest holds."""
    first, *others = key.split(".")
    value: Any = getattr(manifest, first)
    for name in others:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _size(count: int) -> str:
    return f"{count / _KIB:.0f} KiB" if count < _KIB**2 else f"{count / _KIB**2:.1f} MiB"
