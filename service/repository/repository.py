"""The model repository: `<model>/<version>/` folders, as they are on disk at this moment.

A model's folder without such folders may be a version itself, such as Optimum writes it: it is
version 1.

Nothing is kept between calls, so a version copied in while the service runs is found. Nothing
here loads a graph.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from service.errors import ModelLoadError, ModelNotFoundError
from service.repository.digests import answering_files, version_digest
from service.repository.folders import (
    Contents,
    ModelFolders,
    boundary,
    is_inside,
    printable,
    visible_files,
)
from service.repository.goldens import Golden, read_goldens
from service.repository.layouts.exports import is_export
from service.repository.layouts.inference import Description, describe
from service.repository.manifest import (
    DEFAULT_TOLERANCE,
    MANIFEST_NAME,
    PRECISIONS,
    Manifest,
    Precision,
)
from service.repository.onnx_file.graph_validation import validate_graph
from service.repository.paths import file_inside, other_format_of
from service.types import ModelIdentity


class PrecisionNotFoundError(ModelLoadError):
    """A version has no graphs of the precision asked for."""


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version in one precision, checked and ready to be loaded."""

    model: str
    version: int
    folder: Path
    manifest: Manifest
    precision: Precision
    graphs: Mapping[str, Path]
    """By session name."""
    digest: str
    """Of everything that can change an answer, for this precision."""
    size_bytes: int
    """Of the files behind the digest."""
    goldens: tuple[Golden, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    """By dotted key of the manifest, the file that its value comes from."""
    root: Path | None = None
    """Folder that no link of the version leads out of."""

    @property
    def identity(self) -> ModelIdentity:
        """Return what tells its answers from those of other versions."""
        return ModelIdentity(self.model, self.version, self.digest)

    @property
    def tolerance(self) -> float:
        """Return the largest deviation from the goldens that this precision may show."""
        return self.manifest.tolerance.get(self.precision, DEFAULT_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A folder that looks like a model or a version and is not one."""

    model: str
    version: int | None
    """None where the model's folder itself is at fault."""
    reason: str


class ModelRepository:
    """Reads `<root>/<model>/<version>/`, and the folders of models elsewhere by their names.

    Hidden files are not looked at.
    """

    def __init__(self, root: Path, named: Mapping[str, Path] | None = None) -> None:
        self._root = root
        self._folders = ModelFolders(root, named)

    def __repr__(self) -> str:
        return f"<ModelRepository {self._root}>"

    def contents(self) -> Contents:
        """Return the models, and the folders that cannot be one.

        Raises:
            ModelLoadError: the repository itself is not a folder that can be read.
        """
        return self._folders.contents()

    def models(self) -> list[str]:
        """Return the names that have at least one version, in alphabetical order.

        Raises:
            ModelLoadError: the repository itself is not a folder that can be read.
        """
        return list(self.contents().models)

    def versions(self, model: str) -> list[int]:
        """Return the versions of a model, ascending. They may still turn out to be broken.

        Raises:
            ModelNotFoundError: there is no model of this name; a near one is suggested.
            ModelLoadError: its folder has no version, or cannot be read.
        """
        return self._folders.versions(model)

    def describe(self, model: str, version: int) -> Manifest:
        """Return the manifest of a version; reads no graph as a whole.

        Raises:
            ModelNotFoundError: there is no such model or version.
            ModelLoadError: the manifest cannot be read or inferred.
        """
        self._refuse_absent(model, version)
        where = f"{model}/{version}"
        with _told(where):
            return self._described(model, version, where).manifest

    def open(
        self,
        model: str,
        version: int | None = None,
        precision: str | None = None,
        device_kind: str = "cpu",
    ) -> VersionFiles:
        """Read and check one version; the newest if none is named. Reads every file once.

        Args:
            model: its name.
            version: which one.
            precision: "fp32", "fp16", "int8", ...; None leaves the choice to the manifest.
            device_kind: "cpu" or "cuda", for that choice.

        Raises:
            ModelNotFoundError: there is no such model or version.
            ModelLoadError: the version is broken or lacks the precision; the message says which
                file, what about it, and why.
        """
        number = self.versions(model)[-1] if version is None else version
        self._refuse_absent(model, number)
        return self._open(model, number, precision, device_kind)

    def survey(
        self, precision: str | None = None, device_kind: str = "cpu"
    ) -> Sequence[VersionFiles | Unusable]:
        """Return every version, readable or not, and every folder that should not be there.

        Raises:
            ModelLoadError: the repository itself is not a folder that can be read.
        """
        found = self.contents()
        unusable = [Unusable(name, None, reason) for name, reason in found.unusable.items()]
        usable = [self._survey(name, precision, device_kind) for name in found.models]
        whole = [*unusable, *(one for versions in usable for one in versions)]
        return sorted(whole, key=lambda one: (one.model, one.version or 0))

    def _survey(
        self, model: str, precision: str | None, device_kind: str
    ) -> Iterator[VersionFiles | Unusable]:
        for version in self.versions(model):
            try:
                yield self._open(model, version, precision, device_kind)
            except ModelLoadError as error:
                yield Unusable(model, version, str(error))

    def _refuse_absent(self, model: str, version: int) -> None:
        versions = self.versions(model)
        if version not in versions:
            raise ModelNotFoundError(
                f"model {model} has no version {version}, only {', '.join(map(str, versions))}"
            )

    def _open(
        self, model: str, version: int, precision: str | None, device_kind: str
    ) -> VersionFiles:
        where = f"{model}/{version}"
        with _told(where):
            folder, root = self._folders.folder(model, version), self._folders.boundary(model)
            _refuse_links_out(folder, root, where)
            described = self._described(model, version, where)
            manifest = described.manifest
            chosen = _choose_precision(manifest, precision, device_kind, where)
            files = _answering_files(manifest, chosen, folder, root, where)
            digest = version_digest(manifest, chosen, folder, files)
            size = sum(path.stat().st_size for path in files)
            goldens = read_goldens(folder, manifest.task, root)
        return VersionFiles(
            model,
            version,
            folder,
            manifest,
            chosen,
            {session: folder / name for session, name in manifest.graphs[chosen].items()},
            digest,
            size,
            goldens,
            described.sources,
            root,
        )

    def _described(self, model: str, version: int, where: str) -> Description:
        folder = self._folders.folder(model, version)
        if not is_export(folder):
            names = [printable(path.name) for path in folder.iterdir()]
            if other := other_format_of(names):
                raise ModelLoadError(f"{where}: {other}")
        return describe(folder, self._folders.boundary(model), where)


def in_precision(files: VersionFiles, precision: Precision) -> VersionFiles:
    """Return the same version in another precision that its manifest has. Reads its files.

    Raises:
        ModelLoadError: a file is broken.
    """
    manifest, folder, root = files.manifest, files.folder, files.root or files.folder
    with _told(where := f"{files.model}/{files.version}"):
        answering = _answering_files(manifest, precision, folder, root, where)
        return replace(
            files,
            precision=precision,
            graphs={name: folder / file for name, file in manifest.graphs[precision].items()},
            digest=version_digest(manifest, precision, folder, answering),
            size_bytes=sum(path.stat().st_size for path in answering),
        )


def has_default_precision(files: VersionFiles, device_kind: str) -> bool:
    """Return whether a version is in the precision that its manifest chooses for a device."""
    return files.precision == _choose_precision(files.manifest, None, device_kind, files.model)


def _answering_files(
    manifest: Manifest, chosen: Precision, folder: Path, root: Path, where: str
) -> list[Path]:
    data_root = boundary(folder)
    graphs: dict[Precision, list[Path]] = {}
    for precision, named in manifest.graphs.items():
        graphs[precision] = []
        for name in named.values():
            path = file_inside(name, folder, root, f"{where}/{MANIFEST_NAME}")
            graphs[precision] += [path, *validate_graph(path, data_root, where)]
    others = [path for paths in graphs.values() for path in paths]
    return answering_files(folder, graphs[chosen], others)


def _refuse_links_out(folder: Path, root: Path, where: str) -> None:
    # Code that reads files of the version later then need not check links.
    fence = os.path.realpath(root)
    for path in visible_files(folder):
        if path.is_symlink() and not is_inside(path, fence):
            name = printable(path.relative_to(folder).as_posix())
            raise ModelLoadError(
                f"{where}: {name} is a link out of the repository: copy the file there"
            )


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what the file system says of a version's files into ModelLoadError."""
    try:
        yield
    except OSError as error:
        name = printable(Path(str(error.filename)).name)
        raise ModelLoadError(f"{where}: {name} cannot be read: {error.strerror}") from None
    except ModelLoadError as error:  # it may quote the name of a file that is not UTF-8
        raise type(error)(printable(str(error))) from error.__cause__


def _choose_precision(
    manifest: Manifest, wanted: str | None, device_kind: str, where: str
) -> Precision:
    if wanted is not None:
        for precision in manifest.graphs:
            if precision == wanted:
                return precision
        raise PrecisionNotFoundError(
            f"{where} has no {wanted} graphs, only {', '.join(sorted(manifest.graphs))}"
        )
    for kind, precision in manifest.default_precision.items():
        if kind == device_kind:
            return precision
    return next(precision for precision in PRECISIONS if precision in manifest.graphs)
