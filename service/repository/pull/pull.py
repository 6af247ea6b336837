"""Brings a model into the repository as its next version: all of it or nothing, one at a time.

What is fetched lies in `<repository>/.pulling/` until it is whole; an interrupted pull is taken up
there by the next one. A version that is there already is not fetched again.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.errors import ModelLoadError
from service.repository.layouts.exports import is_export
from service.repository.paths import MODEL_NAME, VERSION_NAME
from service.repository.pull.filesystem import FileSystemSource
from service.repository.pull.hub import HubSource
from service.repository.pull.record import Record, records
from service.repository.pull.reference import HUB, Reference
from service.repository.pull.selection import NoGraphsError, Selection, bytes_below, digests_below
from service.repository.pull.source import (
    RemoteFile,
    Snapshot,
    Source,
    UnreachableError,
    patiently,
)

_log = logging.getLogger(__name__)

_FOLDER = ".pulling"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_WAIT = 3600.0
"""Seconds to wait for another process that pulls the same model."""
_LOOK_SECONDS = 0.2

Export = Callable[[Reference, str, Path], None]
"""Writes an export directory of a reference's checkpoint at a commit. Raises ModelLoadError."""


class Observer(Protocol):
    """Sees how far a pull is."""

    def waits(self, model: str) -> None:
        """Another process pulls the same model."""
        ...

    def begins(self, model: str, size: int | None, measure: Callable[[], int]) -> None:
        """Files of this many bytes are fetched; `measure` returns how many are there."""
        ...

    def fetches(self, file: RemoteFile) -> None:
        """A file is being fetched."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to pull."""

    reference: Reference
    model: str
    precision: str | None = None
    """None leaves the choice to the device."""
    device_kind: str = "cpu"
    export: Export | None = None
    """Makes graphs of a checkpoint, if there are none; None refuses it."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A version that is in the repository."""

    version: int
    record: Record
    is_new: bool


def source_of(reference: Reference) -> Source:
    """Return the source of a reference."""
    return HubSource(reference) if reference.scheme == HUB else FileSystemSource(reference)


def find_pulled(root: Path, wanted: Wanted) -> Pulled | None:
    """Return the version that an earlier pull brought for the same reference; asks no network."""
    asked = wanted.reference.revision or ""
    found = [
        one for one in _whole(root, wanted) if asked in (*one.record.asked, one.record.revision)
    ]
    return max(found, key=lambda one: one.record.asked.get(asked, 0.0), default=None)


def pull(root: Path, wanted: Wanted, observer: Observer) -> Pulled:
    """Bring the wanted model into the repository, unless that very version is there.

    If the source cannot be reached, the version that an earlier pull brought is returned.

    Args:
        root: the repository, which is made if it is not there.
        wanted: what to pull.
        observer: sees the progress.

    Raises:
        NoGraphsError: the source has no ONNX graph; the message names the command that makes one.
        ModelLoadError: it cannot be pulled; what was fetched is kept for the next pull.
    """
    if not MODEL_NAME.fullmatch(wanted.model):
        raise ModelLoadError(f"{wanted.model[:100]!r} cannot be a model's name")
    try:
        with _alone(root, wanted.model, observer):
            return _pull(root, wanted, observer)
    except OSError as error:
        raise ModelLoadError(
            f"{wanted.reference} cannot be written below {root}: {error.strerror or error}"
        ) from None


def _pull(root: Path, wanted: Wanted, observer: Observer) -> Pulled:
    reference = wanted.reference
    folder = root / wanted.model
    if is_export(folder) if folder.is_dir() else False:
        raise ModelLoadError(f"{folder} is a version itself: pull under another name")
    if _COMMIT.fullmatch(reference.revision or "") and (known := find_pulled(root, wanted)):
        return known
    source = source_of(reference)
    try:
        snapshot = patiently(source.snapshot, str(reference))
    except UnreachableError as error:
        if known := find_pulled(root, wanted):
            _log.warning("source not reached", extra={"model": wanted.model, "reason": str(error)})
            return known
        raise
    for known in _whole(root, wanted):
        if known.record.revision == snapshot.revision:
            record = known.record.noted(reference.revision)
            record.write(folder / str(known.version))
            return Pulled(known.version, record, is_new=False)
    return _fetched(root, wanted, source, snapshot, observer)


def _fetched(
    root: Path, wanted: Wanted, source: Source, snapshot: Snapshot, observer: Observer
) -> Pulled:
    reference = wanted.reference
    key = f"{reference.source}\0{snapshot.revision}\0{wanted.precision}\0{wanted.device_kind}"
    staging = root / _FOLDER / wanted.model / hashlib.sha256(key.encode()).hexdigest()[:16]
    staging.mkdir(parents=True, exist_ok=True)
    selection = Selection(str(reference), source, snapshot, staging, observer.fetches)

    def begin(size: int | None) -> None:
        observer.begins(wanted.model, size, lambda: bytes_below(staging))

    place, files = selection.place, selection.fetched
    try:
        precision = selection.fetch_all(wanted.precision, wanted.device_kind, begin)
    except NoGraphsError as error:
        if wanted.export is None:
            raise NoGraphsError(f"{error}: {_advice(reference)}") from None
        place, precision = staging / "export", None
        wanted.export(reference, snapshot.revision, place)
        files = digests_below(place)
    record = Record(
        reference.source,
        snapshot.revision,
        precision,
        wanted.precision,
        wanted.device_kind,
        dict(sorted(files.items())),
    ).noted(reference.revision)
    version = _publish(root, wanted, record, place)
    shutil.rmtree(root / _FOLDER / wanted.model, ignore_errors=True)
    return Pulled(version, record, is_new=True)


def _advice(reference: Reference) -> str:
    if reference.scheme != HUB:
        return "export the model with python -m models.export, and pull what it writes"
    revision = f" --revision {reference.revision}" if reference.revision else ""
    return (
        f"export it with python -m models.export {reference.location}{revision} --to DIR, or pull "
        "with --export, which needs the extra train"
    )


def _publish(root: Path, wanted: Wanted, record: Record, place: Path) -> int:
    """Make a whole version visible under its number."""
    for path in place.iterdir():
        if path.name.startswith("."):  # what the clients of sources keep for themselves
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    record.write(place)
    for path in place.rglob("*"):
        _sync(path)
    _sync(place)
    folder = root / wanted.model
    folder.mkdir(exist_ok=True)
    damaged = [
        n
        for n, one in records(folder)
        if _is_same(one, record) and not one.is_whole(folder / str(n))
    ]
    taken = [int(path.name) for path in folder.iterdir() if VERSION_NAME.fullmatch(path.name)]
    version = damaged[0] if damaged else max(taken, default=0) + 1
    target = folder / str(version)
    if damaged:
        target.rename(root / _FOLDER / wanted.model / f"damaged-{time.time_ns()}")
    place.rename(target)
    _sync(folder)
    return version


def _is_same(one: Record, other: Record) -> bool:
    return (one.source, one.revision, one.precision) == (
        other.source,
        other.revision,
        other.precision,
    )


def _whole(root: Path, wanted: Wanted) -> Iterator[Pulled]:
    folder = root / wanted.model
    for version, record in records(folder):
        if record.source != wanted.reference.source:
            continue
        fits = record.answers(wanted.precision, wanted.device_kind)
        if fits and record.is_whole(folder / str(version)):
            yield Pulled(version, record, is_new=False)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(root: Path, model: str, observer: Observer) -> Iterator[None]:
    """Hold the lock of a model, which ends with the process. Raises ModelLoadError."""
    folder = root / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}.lock").open("w") as lock:
        ends, is_told = time.monotonic() + _LONGEST_WAIT, False
        while not _taken(lock.fileno()):
            if not is_told:
                observer.waits(model)
                is_told = True
            if time.monotonic() > ends:
                raise ModelLoadError(f"another process has been pulling {model} for an hour")
            time.sleep(_LOOK_SECONDS)
        yield


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
