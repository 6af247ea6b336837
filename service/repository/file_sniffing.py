"""What a file is that is not a file of a model: by its name, and by its first bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

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
