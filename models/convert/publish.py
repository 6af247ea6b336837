"""From an export directory to a version of the model repository, whole or not at all."""

import asyncio
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError
from models.convert.references import record_goldens
from models.convert.report import Evidence, draw, table_of
from models.convert.samples import SAMPLES, Contents
from models.evaluate.served import precisions_of, serve
from models.version_files import TABLE_END, TABLE_START, write_card, write_manifest
from service.errors import ServiceError
from service.repository.layouts.exports import is_export
from service.repository.layouts.inference import describe
from service.repository.manifest import (
    DEFAULT_TOLERANCE,
    MANIFEST_NAME,
    Manifest,
    Precision,
    read_manifest_table,
)
from service.repository.paths import MODEL_NAME, VERSION_NAME

SUMS = "SHA256SUMS"
"""Digests of graphs and tables, as `sha256sum --check` reads them."""

_ANY = 2.0
"""A tolerance that every answer meets, while the deviations are measured."""

_SLACK = 2
"""Times the measured deviation that is tolerated: other processors round otherwise."""


def publish(
    checkpoint: Checkpoint,
    export: Path,
    repository: Path,
    name: str,
    evidence: Sequence[Evidence] = (),
    contents: Contents = SAMPLES,
) -> Path:
    """Make the directory the next version of a model; return its folder.

    The version is built in a hidden folder next to its destination, loaded in every precision by
    the service's own loader and compared with the goldens, and only then renamed: a service that
    watches the repository sees all of it or nothing. `model.toml` says what was measured; what
    the files tell by themselves stays theirs.

    Raises:
        CheckpointError: the name cannot be a model's, the service cannot load the version, or
            its fp32 answers are not PyTorch's. The repository is as it was.
    """
    if not MODEL_NAME.fullmatch(name):
        raise CheckpointError(f"{name!r} cannot be a model's name")
    model = repository / name
    if model.is_dir() and is_export(model):
        raise CheckpointError(f"{name} is itself a version: move it into a folder {name}/1 first")
    model.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".publishing-", dir=model))
    try:
        folder = staging / name / "1"
        shutil.copytree(export, folder, ignore=shutil.ignore_patterns(".*"))
        _complete(checkpoint, folder, staging, contents)
        _write_card(folder, checkpoint, evidence)
        _write_sums(folder)
        return _put_in_place(folder, model)
    except ServiceError as error:
        raise CheckpointError(f"the version cannot be served: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not any(model.iterdir()):
            model.rmdir()


def _complete(checkpoint: Checkpoint, folder: Path, root: Path, contents: Contents) -> None:
    name = folder.parent.name
    path = folder / MANIFEST_NAME
    said = read_manifest_table(path) if path.exists() else {}
    manifest = describe(folder, root, name).manifest
    record_goldens(checkpoint, manifest, contents, folder)
    _write_manifest(folder, said, manifest, dict.fromkeys(manifest.graphs, _ANY))
    measured: dict[Precision, float] = {}
    for precision in tqdm(precisions_of(root, name), desc="goldens", unit="precision"):
        measured[precision] = deviation_of(root, name, precision)
    if measured.get("fp32", 0.0) > DEFAULT_TOLERANCE:
        raise CheckpointError(
            f"served in fp32, its answers are off by {measured['fp32']:.2g} from PyTorch's"
        )
    tolerance = {key: tolerated(value) for key, value in measured.items()}
    _write_manifest(folder, said, manifest, tolerance)


def deviation_of(root: Path, name: str, precision: Precision, version: int | None = None) -> float:
    """Return how far the served answers are from the goldens.

    Raises:
        CheckpointError: there are no goldens.
        ServiceError: the version cannot be loaded, or is beyond its tolerance.
    """

    async def measured() -> float:
        async with serve(root, name, precision, version) as served:
            parity = served.loaded.parity
            if parity is None:
                raise CheckpointError("the service found no goldens")
            return parity.deviation

    return asyncio.run(measured())


def tolerated(deviation: float) -> float:
    """Return twice a deviation, rounded up to two digits; at least the default tolerance."""
    if deviation <= 0:
        return DEFAULT_TOLERANCE
    step = 10.0 ** (math.floor(math.log10(deviation * _SLACK)) - 1)
    doubled = float(f"{math.ceil(deviation * _SLACK / step) * step:.6g}")
    return max(DEFAULT_TOLERANCE, doubled)


def _write_manifest(
    folder: Path, said: Mapping[str, Any], manifest: Manifest, tolerance: Mapping[Precision, float]
) -> None:
    """Write what was said before, with the graphs and the tolerances."""
    told: Mapping[str, Any] = {
        "task": manifest.task.value,
        "family": manifest.family,
        "graphs": {precision: dict(files) for precision, files in manifest.graphs.items()},
        "tolerance": dict(tolerance),
    }
    write_manifest(folder, {**said, **told})


def _write_card(folder: Path, checkpoint: Checkpoint, evidence: Sequence[Evidence]) -> None:
    picture = ""
    if evidence:
        (folder / "goldens").mkdir(exist_ok=True)
        draw(evidence, folder / "goldens" / "precisions.png")
        picture = "\n![Deviation against time and size](goldens/precisions.png)\n"
    kind = type(checkpoint.model).__name__
    write_card(
        folder,
        f"# {folder.parent.name}\n\n"
        f"{kind}, exported from a PyTorch checkpoint. Measured on sample inputs, on one thread of "
        "the CPU that exported it; deviations are from PyTorch in fp32.\n\n"
        f"{table_of(evidence)}\n{picture}\n## Evaluation\n\n{TABLE_START}\n"
        "Not measured on data yet: `python -m models.evaluate FOLDER --items FILE --write-cards`\n"
        f"{TABLE_END}\n",
    )


def _write_sums(folder: Path) -> None:
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".md":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _put_in_place(folder: Path, model: Path) -> Path:
    """Rename the folder to the next version; another who publishes at once gets the one after."""
    os.sync()  # a crash after the rename must not leave a version with empty files
    taken = [int(path.name) for path in model.iterdir() if VERSION_NAME.fullmatch(path.name)]
    number = max(taken, default=0) + 1
    while True:
        target = model / str(number)
        try:
            folder.chmod(0o755)
            return folder.rename(target)
        except OSError:
            if not target.exists():
                raise
            number += 1
