"""Names and files that may be read: inside the repository, and what they seem to be."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from service.errors import ModelLoadError

_ARCHIVE = "an archive: unpack it"
_CHECKPOINT = "a checkpoint: export it to ONNX with python -m models.export"
_KERAS = "a Keras model: convert it to ONNX with tf2onnx"
_TENSORRT = "a TensorRT engine: serve the ONNX graph that it was built from"
_CORE_ML = "a Core ML model: export its original to ONNX"

_FORMATS: Mapping[str, str] = {
    ".tflite": "a TensorFlow Lite model: convert it to ONNX with tf2onnx "
    "(python -m tf2onnx.convert --tflite FILE --output model.onnx)",
    "saved_model.pb": "a TensorFlow SavedModel: convert it to ONNX with tf2onnx "
    "(python -m tf2onnx.convert --saved-model FOLDER --output model.onnx)",
    ".pb": "a TensorFlow graph: convert it to ONNX with tf2onnx",
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".gguf": "a GGUF file for llama.cpp: export the original checkpoint to ONNX",
    ".engine": _TENSORRT,
    ".plan": _TENSORRT,
    ".trt": _TENSORRT,
    ".mlmodel": _CORE_ML,
    ".mlpackage": _CORE_ML,
    ".ort": "a graph in ONNX Runtime's own format: serve the .onnx file that it was made from",
    ".xml": "perhaps an OpenVINO model: export its original to ONNX",
    ".safetensors": _CHECKPOINT,
    ".pt": _CHECKPOINT,
    ".pth": _CHECKPOINT,
    ".ckpt": _CHECKPOINT,
    ".bin": _CHECKPOINT,
    ".msgpack": _CHECKPOINT,
    ".zip": _ARCHIVE,
    ".tar": _ARCHIVE,
    ".gz": _ARCHIVE,
    ".tgz": _ARCHIVE,
}

_BEGINNING = 512

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")

_SIGNATURES: Final[Mapping[bytes, str]] = {
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


def other_format_of(names: Sequence[str]) -> str | None:
    """Return a sentence about the first name of a known format; None if there is none."""
    for ending, what in _FORMATS.items():
        for name in sorted(names):
            if name.lower().endswith(ending):
                return f"{name} is {what}"
    return None


def stand_in(path: Path) -> str | None:
    """Return why a file cannot be one of a model, and what to do; None if it can.

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
    """Return what a file is that cannot be an ONNX graph; None if it can.

    Raises:
        OSError: it cannot be read.
    """
    beginning = _beginning(path)
    for mark, kind in _SIGNATURES.items():
        if beginning.startswith(mark):
            return kind
    return None


def checkpoints(names: Sequence[str]) -> list[str]:
    """Return the names of weights without a graph, as training frameworks write them."""
    return sorted(name for name in names if name.endswith(_CHECKPOINTS))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BEGINNING)


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
        folder: where the file must be.
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
        problem = stand_in(path)
    except (OSError, RuntimeError) as error:  # of links in a circle the one or the other
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise ModelLoadError(f"{where}: {name} cannot be read: {reason}") from None
    if problem is not None:
        raise ModelLoadError(f"{where}: {name} {problem}")
    return path
