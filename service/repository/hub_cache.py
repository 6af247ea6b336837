"""The cache of the Hugging Face hub: `models--org--name/`, whose snapshots are links into blobs."""

import os
from pathlib import Path

from service.repository.paths import MODEL_NAME

_PREFIX = "models--"
_SNAPSHOTS = "snapshots"
_MAIN = Path("refs", "main")


def is_cached_model(folder: Path) -> bool:
    """Tell whether a folder is the cache of one model of the hub."""
    return folder.name.startswith(_PREFIX) and (folder / _SNAPSHOTS).is_dir()


def snapshot_of(folder: Path) -> Path | None:
    """Return the snapshot of a cached model: that of `refs/main`, else the only one.

    Raises:
        OSError: the folder cannot be read.
    """
    snapshots = folder / _SNAPSHOTS
    if (folder / _MAIN).is_file():
        revision = (folder / _MAIN).read_text(encoding="ascii", errors="replace").strip()
        # The name is read from a file: it must not lead to another folder.
        if MODEL_NAME.fullmatch(revision) and (snapshots / revision).is_dir():
            return snapshots / revision
    found = [path for path in snapshots.iterdir() if path.is_dir()]
    return found[0] if len(found) == 1 else None


def boundary(folder: Path) -> Path:
    """Return what no link of a folder may lead out of.

    It is the folder itself, or the cached model that it is in: its files are links into `blobs`.
    """
    real = Path(os.path.realpath(folder))
    return next((path for path in (real, *real.parents) if is_cached_model(path)), folder)
