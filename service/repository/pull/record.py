"""What is kept with a pulled version: where it is from, and the digests of its files."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from service.errors import ModelLoadError
from service.repository.paths import VERSION_NAME
from service.repository.tables import read_table

RECORD_NAME = ".source.json"


@dataclass(frozen=True, slots=True)
class PulledFile:
    """One file of a pulled version."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """Where a version is from."""

    source: str
    """Without revision and secrets: `hf://org/name`."""
    revision: str
    """The commit, or a digest of the listing."""
    precision: str | None
    """Of its graphs; the version has no others."""
    asked_precision: str | None
    """None if the device chose."""
    device_kind: str
    files: Mapping[str, PulledFile]
    asked: Mapping[str, float] = field(default_factory=dict)
    """By branch, tag or commit, "" for none: when it was last found to be this revision."""

    def answers(self, asked_precision: str | None, device_kind: str) -> bool:
        """Tell whether a pull with these options would have the same files."""
        if asked_precision is not None and asked_precision == self.precision:
            return True
        return (asked_precision, device_kind) == (self.asked_precision, self.device_kind)

    def is_whole(self, folder: Path) -> bool:
        """Tell whether all files are there, with their sizes."""
        try:
            return all((folder / n).stat().st_size == one.size for n, one in self.files.items())
        except OSError:
            return False

    def noted(self, asked: str | None) -> "Record":
        """Return the record with one more name that led to it, now."""
        return Record(
            self.source,
            self.revision,
            self.precision,
            self.asked_precision,
            self.device_kind,
            self.files,
            {**self.asked, asked or "": time.time()},
        )

    def write(self, folder: Path) -> None:
        """Write it into a version's folder, whole or not at all."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        draft = folder / f"{RECORD_NAME}.new"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / RECORD_NAME)


def read_record(folder: Path) -> Record | None:
    """Return the record of a version; None if it was not pulled, or the record is broken."""
    try:
        return read_table(json.loads((folder / RECORD_NAME).read_bytes()), Record, RECORD_NAME)
    except (OSError, ValueError, ModelLoadError):
        return None


def records(model: Path) -> Iterator[tuple[int, Record]]:
    """Yield the pulled versions of a model's folder, the newest first."""
    names = [path.name for path in model.iterdir()] if model.is_dir() else []
    for number in sorted(
        (int(name) for name in names if VERSION_NAME.fullmatch(name)), reverse=True
    ):
        if (record := read_record(model / str(number))) is not None:
            yield number, record


def narrowed(explicit: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Return the table of a model.toml without the precisions that were not pulled."""
    graphs = explicit.get("graphs")
    record = read_record(folder) if isinstance(graphs, Mapping) else None
    if record is None or not isinstance(graphs, Mapping) or record.precision not in graphs:
        return explicit
    kept = {key: value for key, value in explicit.items() if key != "default_precision"}
    for key in ("graphs", "tolerance"):
        if isinstance(table := kept.get(key), Mapping):
            kept[key] = {name: table[name] for name in table if name == record.precision}
    return kept
