"""A checkpoint's graphs in fp32, with the files that say how to feed them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx
from optimum.exporters.onnx import onnx_export_from_model

from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.graphs.quiet import quiet
from service.repository.layouts.exports import read_export

OPSET = 18
"""The newest that Optimum's patterns are tried with; ONNX Runtime since 1.14 reads it."""

_LARGEST_FILE = 1_500_000_000
"""Bytes of weights that are kept in the graph's own file; protobuf ends at 2 GiB."""

_JOINT_MODELS = ("clip", "siglip", "chinese_clip")
"""Optimum takes them for zero-shot classifiers, whose graphs compare in place of embedding."""

_COPIED = ("*.json", "*.txt", "*.model", "*.spm", "*/config.json")


def export_graphs(checkpoint: Checkpoint, to: Path) -> Mapping[str, Path]:
    """Write graphs and their companion files; return file names by role.

    The exporter is Optimum's, for every architecture: it knows which inputs and outputs each
    one has, which axes vary, where tracing goes wrong and must be patched, and how a decoder is
    cut into a first step and later ones. PyTorch's exporter knows none of this; the starters,
    which are no transformers models, go through it (`models.graphs.files`). Optimum's
    inner function is called rather than its `main_export`, because the latter loads the
    weights itself: the parity would be with another copy, read by other rules.

    Raises:
        CheckpointError: Optimum has no export for this architecture.
    """
    to.mkdir(parents=True, exist_ok=True)
    model_type = checkpoint.model.config.model_type
    task = "feature-extraction" if model_type in _JOINT_MODELS else None
    with quiet():
        try:
            onnx_export_from_model(
                checkpoint.model,
                to,
                task=task,
                opset=OPSET,
                do_validation=False,  # it is measured here, and the number is reported
                no_post_process=True,  # separate decoders can be quantised, merged ones less well
            )
        except (KeyError, NotImplementedError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{model_type} cannot be exported: {reason}") from error
    copy_beside(checkpoint, to)
    return graphs_of(to)


def graphs_of(folder: Path, precision: str = "fp32") -> Mapping[str, Path]:
    """Return the graphs of a directory in one precision, by role."""
    files = read_export(folder)
    return {
        role: folder / name
        for role, of in files.graphs.items()
        for known, name in of.items()
        if known == precision
    }


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it; weights over 2 GB go into an external data file.

    Raises:
        onnx.checker.ValidationError: it is not valid ONNX.
    """
    data = f"{path.name}_data"
    (path.parent / data).unlink(missing_ok=True)  # onnx appends to what is there
    large = model.ByteSize() > _LARGEST_FILE
    onnx.save_model(model, str(path), save_as_external_data=large, location=data)
    onnx.checker.check_model(str(path))


def size_of(path: Path) -> int:
    """Return the size in bytes of a graph and its external data."""
    data = path.with_name(f"{path.name}_data")
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)


def copy_beside(checkpoint: Checkpoint, to: Path, *, replacing: bool = False) -> None:
    """Copy what no exporter writes: vocabularies, pooling, prompts, generation.

    Files that are there already are those of the exporter, unless `replacing` says otherwise.
    """
    source = checkpoint.folder
    for pattern in _COPIED:
        for path in source.glob(pattern):
            target = to / path.relative_to(source)
            if not replacing and target.exists():
                continue
            if path.is_file() and ".index." not in path.name:
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
