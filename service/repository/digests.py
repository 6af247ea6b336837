"""The identity of a version: a hash of everything in it that can change an answer."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.folders import visible_files
from service.repository.goldens import GOLDENS_FOLDER, GOLDENS_NAME
from service.repository.manifest import MANIFEST_NAME, Manifest, Precision
from service.tasks import fingerprint

_SCHEMA = 1
"""Raise when the way of hashing changes."""

_DIGEST_BYTES = 16
_NEVER_READ = frozenset({(MANIFEST_NAME,), (GOLDENS_NAME,)})
_PROSE = ".md"


def answering_files(folder: Path, graphs: Collection[Path], others: Collection[Path]) -> list[Path]:
    """Return the files of a version that can change its answers, by their names.

    A file counts unless it is known not to: one forgotten here would let a cache answer for a
    model that has changed. Not counted are the manifest (`version_digest` takes what matters of
    it), prose, the goldens, hidden files and the graphs of other precisions.

    Args:
        folder: the version's folder.
        graphs: the graphs of the chosen precision and the files of their external data.
        others: the same of all other precisions.

    Raises:
        ModelLoadError: the folder holds a link to another folder, which is not followed.
    """
    left_out = set(others) - set(graphs)
    found = set(graphs)
    for path in visible_files(folder):
        if path.is_dir():
            raise ModelLoadError(
                f"{path.name} is a link to a folder; links to folders are not read"
            )
        if _can_matter(path, folder):
            found.add(path)
    # By name, because a file system lists in any order it likes.
    return sorted(found - left_out, key=lambda path: path.relative_to(folder).as_posix())


def version_digest(
    manifest: Manifest, precision: Precision, folder: Path, files: Sequence[Path]
) -> str:
    """Return the hash of a version in one precision: 128 bits as hexadecimal digits.

    Of the manifest only what reaches the family counts, so that a new description or another
    batch size keeps the cached answers.

    Raises:
        OSError: a file cannot be read.
    """
    hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    facts = {
        "task": manifest.task,
        "family": manifest.family,
        "graphs": manifest.graphs[precision],
        "parameters": manifest.parameters,
    }
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    hashed.update(fingerprint(_SCHEMA, canonical, len(files)))
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
        hashed.update(fingerprint(path.relative_to(folder).as_posix(), content.digest()))
    return hashed.hexdigest()


def _can_matter(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    if path.suffix == _PROSE:
        return False
    if parts[0] == GOLDENS_FOLDER or parts in _NEVER_READ:
        return False
    return path.is_file()
