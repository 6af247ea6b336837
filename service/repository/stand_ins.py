"""Files that are not what their name says, told by how they begin. Nothing is parsed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_BEGINNING = 512

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")

_OTHER_FORMATS: Final[Mapping[bytes, str]] = {
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a RIFF file (a WebP picture, or sound)",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (PyTorch checkpoints are such archives too)",
    b"\x1f\x8b": "a gzip archive",
    b"\x80\x02": "a pickle, which is never read",
    b"\x80\x03": "a pickle, which is never read",
    b"\x80\x04": "a pickle, which is never read",
    b"\x80\x05": "a pickle, which is never read",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x7fELF": "a program",
    b"{": "a JSON text",
}

_CHECKPOINTS = (
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".pickle",
    ".safetensors",
    ".h5",
    ".msgpack",
)


def stand_in(path: Path) -> str | None:
    """Return what a file is that can be no file of a model, and what to do; None if it may be.

    Raises:
        OSError: it cannot be read.
    """
    beginning = _beginning(path)
    if not beginning:
        return "is empty: copy it again"
    if beginning.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the file itself: fetch the file with git lfs pull"
    if beginning.lstrip().lower().startswith(_PAGES):
        return "is an HTML page, such as a failed download leaves: download the file again"
    return None


def other_format(path: Path) -> str | None:
    """Return what a file is that certainly is no ONNX graph; None if it may be one.

    Raises:
        OSError: it cannot be read.
    """
    beginning = _beginning(path)
    for mark, kind in _OTHER_FORMATS.items():
        if beginning.startswith(mark):
            return kind
    return None


def checkpoints(names: Sequence[str]) -> list[str]:
    """Return those names that training frameworks give to weights that have no graph."""
    return sorted(name for name in names if name.endswith(_CHECKPOINTS))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BEGINNING)
