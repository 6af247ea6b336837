"""Fetches, of a snapshot, the files of one precision that serving needs, and nothing else."""

import hashlib
import json
import posixpath
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from service.errors import ModelLoadError
from service.repository.layouts.exports import MODULES, graphs_by_role, read_export
from service.repository.layouts.facts import DEFAULT_PRECISIONS
from service.repository.layouts.needed import (
    READ_FIRST,
    graphs_by_precision,
    plain_names,
    tables_of_modules,
    texts_needed,
    what_else,
)
from service.repository.layouts.strangers import refused_by_tables
from service.repository.manifest import MANIFEST_NAME, Precision, read_manifest_table
from service.repository.onnx_file.reader import read_onnx
from service.repository.paths import VERSION_NAME, checkpoints
from service.repository.pull.record import PulledFile
from service.repository.pull.source import RemoteFile, Snapshot, Source, TransientError, patiently
from service.repository.repository import PrecisionNotFoundError

_SPARE_BYTES = 16 * 1024 * 1024
"""Left free on the disk, for the file system's own tables and the service's logs."""
_CHUNK = 1024 * 1024


class NoGraphsError(ModelLoadError):
    """A source holds a model, but no ONNX graph of it."""


@dataclass(slots=True)
class Selection:
    """A version that is being fetched into a folder."""

    where: str
    """Names the source in errors."""
    source: Source
    snapshot: Snapshot
    folder: Path
    """Of everything that is fetched, as the source lays it out."""
    note: Callable[[RemoteFile], None]
    """Called before a file is fetched."""
    prefix: str = ""
    """Of the version in the source."""
    names: frozenset[str] = frozenset()
    """Its files, without the prefix."""
    fetched: dict[str, PulledFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = plain_names(self.snapshot.files)
        self.prefix = _version_prefix(names)
        self.names = frozenset(
            name.removeprefix(self.prefix) for name in names if name.startswith(self.prefix)
        )

    @property
    def place(self) -> Path:
        """Return the version's folder."""
        return self.folder / self.prefix

    def fetch_all(
        self, precision: str | None, device_kind: str, begin: Callable[[int | None], None]
    ) -> Precision:
        """Fetch a version and return the precision of its graphs.

        Args:
            precision: the wanted one; None leaves the choice to the device.
            device_kind: "cpu" or "cuda".
            begin: called with the bytes of all files, None if unknown, once that is known.

        Raises:
            NoGraphsError: there is no graph.
            PrecisionNotFoundError: there are none of this precision.
            ModelLoadError: the model is of a kind that is not served, a file cannot be had or is
                not what the source says, or the disk has no room.
            OSError: the folder cannot be written.
        """
        if not any(name.endswith(".onnx") for name in self.names):
            raise NoGraphsError(self._without_graphs())
        self._fetch(READ_FIRST & self.names)
        manifest = self._manifest()
        self._refuse_stranger(manifest)
        available = graphs_by_precision(self.names, manifest)
        chosen = _chosen(available, precision, device_kind, manifest, self.where)
        graphs = available[chosen]
        texts = [*texts_needed(self.names, bool(manifest)), *self._module_tables()]
        wanted = [*texts, *graphs, *_data_by_name(graphs, self.names)]
        begin(self._check_room(wanted))
        self._fetch([*texts, *graphs])
        data = self._external_data(graphs)
        self._check_room(data)
        self._fetch(data)
        return chosen

    def _manifest(self) -> Mapping[str, Any]:
        if MANIFEST_NAME not in self.names:
            return {}
        return read_manifest_table(self.place / MANIFEST_NAME)

    def _refuse_stranger(self, manifest: Mapping[str, Any]) -> None:
        if manifest:
            return
        known = replace(read_export(self.place), graphs=graphs_by_role(self.names))
        if reason := refused_by_tables(known):
            raise ModelLoadError(f"{self.where}: {reason}")

    def _module_tables(self) -> Sequence[str]:
        if MODULES not in self.names:
            return []
        modules = json.loads((self.place / MODULES).read_bytes())  # read_export has checked it
        return sorted(self.names.intersection(tables_of_modules(modules)))

    def _external_data(self, graphs: Iterable[str]) -> Sequence[str]:
        """Return the files of the graphs' external data. Raises ModelLoadError."""
        found = set()
        for graph in graphs:
            onnx = read_onnx(self.place / graph, self.where)
            for location in {place for tensor in onnx.tensors for place in tensor.locations}:
                name = posixpath.join(posixpath.dirname(graph), location)
                if name not in self.names:
                    raise ModelLoadError(
                        f"{self.where}: {graph} needs {location[:100]!r}, which is not there"
                    )
                found.add(name)
        return sorted(found)

    def _fetch(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            if name in self.fetched:
                continue
            file = self.snapshot.files[self.prefix + name]
            self.note(file)
            what = f"{self.where}: {name}"
            self.fetched[name] = patiently(partial(self._fetch_one, file), what)

    def _fetch_one(self, file: RemoteFile) -> PulledFile:
        self.source.fetch(file, self.snapshot.revision, self.folder)
        path = self.folder / file.name
        pulled, git_blob = _digests(path)
        sizes = (None, pulled.size)
        hashes = (None, pulled.sha256)
        if file.size in sizes and file.sha256 in hashes and file.git_blob in (None, git_blob):
            return pulled
        path.unlink()
        raise TransientError("what arrived is not what the source says it is")

    def _check_room(self, names: Iterable[str]) -> int | None:
        """Return the bytes of files, None if unknown. Raises ModelLoadError if they do not fit."""
        files = [self.snapshot.files[self.prefix + name] for name in set(names)]
        total = sum(file.size or 0 for file in files)
        missing = total - bytes_below(self.folder) + _SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise ModelLoadError(
                f"{self.where} needs {total >> 20} MiB, of which {missing >> 20} MiB are missing, "
                f"and the disk of {self.folder.parent.parent.parent} has {free >> 20} MiB free"
            )
        return total if all(file.size is not None for file in files) else None

    def _without_graphs(self) -> str:
        found = checkpoints(sorted(self.names))
        what = f"; {what_else(self.names)}" if not found else f", only {found[0]}"
        return f"{self.where} has no ONNX graph{what if self.names else ''}"


def bytes_below(folder: Path) -> int:
    """Return the size of all files in a folder, which may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def digests_below(folder: Path) -> dict[str, PulledFile]:
    """Return the files of a version's folder with their digests."""
    return {
        path.relative_to(folder).as_posix(): _digests(path)[0]
        for path in folder.rglob("*")
        if path.is_file()
    }


def _version_prefix(names: Iterable[str]) -> str:
    """Return the folder of the newest version, if the source is a folder of versions."""
    listed = list(names)
    if any("/" not in name and name in READ_FIRST for name in listed):
        return ""
    if any(name.endswith(".onnx") and name.rpartition("/")[0] in ("", "onnx") for name in listed):
        return ""
    first = {name.partition("/")[0] for name in listed if "/" in name}
    numbers = [int(name) for name in first if VERSION_NAME.fullmatch(name)]
    return f"{max(numbers)}/" if numbers else ""


def _chosen(
    available: Mapping[Precision, Sequence[str]],
    wanted: str | None,
    device_kind: str,
    manifest: Mapping[str, Any],
    where: str,
) -> Precision:
    if not available:
        raise ModelLoadError(f"{where}: no precision has all the graphs that serving needs")
    default = manifest.get("default_precision")
    if isinstance(default, Mapping):
        default = default.get(device_kind)
    elif not manifest:
        default = DEFAULT_PRECISIONS.get(device_kind)
    for precision in available:
        if precision == (default if wanted is None else wanted):
            return precision
    if wanted is None:
        return next(iter(available))
    raise PrecisionNotFoundError(f"{where} has no {wanted} graphs, only {', '.join(available)}")


def _data_by_name(graphs: Iterable[str], names: Iterable[str]) -> Sequence[str]:
    """Return what is probably the external data of graphs, to know the size before."""
    listed = list(names)
    return [name for graph in graphs for name in listed if name != graph and name.startswith(graph)]


def _digests(path: Path) -> tuple[PulledFile, str]:
    size = path.stat().st_size
    whole = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
            blob.update(chunk)
    return PulledFile(size, whole.hexdigest()), blob.hexdigest()
