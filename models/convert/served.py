"""int8 for a folder that the service serves: a version with its manifest, or an export."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from models.convert.asking import image_items
from models.convert.choice import MAX_LOSS, Choice, choose_int8
from models.convert.errors import CheckpointError
from models.convert.publish import deviation_of, tolerated
from models.evaluate.artefact import Artefact
from models.evaluate.errors import EvaluationError
from models.version_files import write_manifest
from service.errors import ServiceError
from service.repository.layouts.exports import is_export
from service.repository.manifest import MANIFEST_NAME, read_manifest_table
from service.repository.paths import checkpoints
from service.repository.repository import ModelRepository

_ANY = 2.0
"""A tolerance that every answer meets, while the deviation is measured."""


def is_served(folder: Path) -> bool:
    """Tell whether a folder holds graphs, and no weights that could be exported."""
    if not folder.is_dir() or not is_export(folder):
        return False
    names = [path.name for path in (*folder.iterdir(), *folder.glob("onnx/*"))]
    return any(name.endswith(".onnx") for name in names) and not checkpoints(names)


def copied(source: Path, to: Path) -> Path:
    """Copy a folder, unless it is the same; return where it is now."""
    if source.resolve() != to.resolve():
        shutil.copytree(source, to, dirs_exist_ok=True)
    return to


def add_int8(
    folder: Path,
    images: Sequence[Image.Image] = (),
    max_loss: float | None = None,
    *,
    is_static: bool = False,
) -> Choice:
    """Add int8 to a served folder: the graph and, if it has a manifest, what that says of it.

    Args:
        folder: a version's, or an export.
        images: to calibrate and compare with; without, the goldens.
        max_loss: per cent by which answers may change; None is `MAX_LOSS`.
        is_static: whether to write it even if it is no faster than fp32.

    Raises:
        CheckpointError: the folder cannot be served, there is nothing to calibrate with, or the
            graph has no convolutions.
    """
    try:
        artefact = Artefact.at(folder)
        repository, model, version = artefact.repository, artefact.model, artefact.version
        files = ModelRepository(repository).open(model, version, "fp32")
        items = [golden.item for golden in files.goldens]
        if images:
            items = list(image_items(files.manifest.task, images))
        if not items:
            raise CheckpointError("int8 of convolutions needs --calibration: a folder of images")
        bound = MAX_LOSS if max_loss is None else max_loss
        choice = choose_int8(files, items, bound, is_static=is_static)
        if choice.graph is not None and "graphs" in _manifest(folder):
            name = choice.graph.relative_to(files.folder).as_posix()
            _say(folder, name, _ANY)
            if files.goldens:
                _say(folder, name, tolerated(deviation_of(repository, model, "int8", version)))
    except (EvaluationError, ServiceError) as error:
        raise CheckpointError(str(error)) from error
    return choice


def _manifest(folder: Path) -> dict[str, object]:
    path = folder / MANIFEST_NAME
    return dict(read_manifest_table(path)) if path.exists() else {}


def _say(folder: Path, graph: str, tolerance: float) -> None:
    """Write the graph and its tolerance into the manifest."""
    table = read_manifest_table(folder / MANIFEST_NAME)
    graphs = {**table["graphs"], "int8": {"model": graph}}
    allowed = {**table.get("tolerance", {}), "int8": tolerance}
    write_manifest(folder, {**table, "graphs": graphs, "tolerance": allowed})
