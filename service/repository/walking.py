"""The visible files of a version, through the links that Kubernetes makes."""

import os
from collections.abc import Iterator
from pathlib import Path


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a version that have no hidden part in their path.

    Kubernetes mounts a ConfigMap, Secret or projected volume as links to `..data`, which is a link
    to a hidden folder. Links into hidden folders of the version are followed; other links to
    folders are yielded as they are.

    Raises:
        OSError: a folder cannot be read.
    """
    real = Path(os.path.realpath(folder))
    followed: set[Path] = set()
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(parent)
        visible = sorted(name for name in folders if not name.startswith("."))
        folders.clear()
        for path in [here / name for name in visible]:
            target = Path(os.path.realpath(path))
            if path.is_symlink() and (target in followed or not _is_hidden(target, real)):
                yield path
            else:
                followed.add(target)
                folders.append(path.name)
        yield from (here / name for name in names if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise error


def _is_hidden(path: Path, folder: Path) -> bool:
    if not path.is_relative_to(folder):
        return False
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
