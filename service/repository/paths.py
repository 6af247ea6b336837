"""Names of models and of their files that cannot lead out of the repository."""

import re
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.file_sniffing import stand_in

MODEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,99}", re.ASCII)
"""A model's name goes into paths, URLs, metrics and logs: letters, digits, ".", "_" and "-"."""

VERSION_NAME = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
"""A version's folder: a positive whole number, written in one way only."""

_FORBIDDEN = r'<>:;,?"*|/\\\x00-\x1f\x7f'
_FILE_NAME = re.compile(rf"[^.{_FORBIDDEN}](?:[^.{_FORBIDDEN}]|\.(?!\.)){{0,199}}")


def is_plain_path(name: str) -> bool:
    """Tell whether a name is a relative path of ordinary parts, "/" between them.

    No "..", no drive, no backslash, no hidden file, and none of the marks that ONNX Runtime
    gives a meaning of its own (it reads "*/_ORT_MEM_ADDR_/*" as an address in memory).
    """
    return all(_FILE_NAME.fullmatch(part) for part in name.split("/"))


def file_inside(name: str, folder: Path, root: Path, where: str) -> Path:
    """Return the path of a file that is in the folder, also after following links.

    Args:
        name: relative to the folder.
        folder: where the file is said to be.
        root: what no link may lead out of; the folder itself or one above it.
        where: who names the file, for the error.

    Raises:
        ModelLoadError: the name is not a plain path, leads outside, or is no file; or the file
            is empty, or stands in for another that was not fetched.
    """
    if not is_plain_path(name):
        raise ModelLoadError(f"{where}: {name!r} is not the name of a file in the version's folder")
    path = folder / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise ModelLoadError(
                f"{where}: {name} leads out of the folder it must be in: copy the file there"
            )
        if path.is_dir():
            raise ModelLoadError(f"{where}: {name} is a folder, where a file must be")
        if not path.is_file():
            raise ModelLoadError(f"{where}: the file {name} does not exist")
        said = stand_in(path)
    except (OSError, RuntimeError) as error:  # of links in a circle the one or the other
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise ModelLoadError(f"{where}: {name} cannot be read: {reason}") from None
    if said is not None:
        raise ModelLoadError(f"{where}: {name} {said}")
    return path
