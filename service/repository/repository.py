"""The model repository: `<model>/<version>/` folders, as they are on disk at this moment.

A model's folder without such folders may be a version itself, such as Optimum writes it: it is
version 1.

Nothing is kept between calls, so a version copied in while the service runs is found. Nothing
here loads a graph.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import ModelLoadError, ModelNotFoundError
from service.repository.digests import answering_files, version_digest
from service.repository.external_data import external_files
from service.repository.goldens import Golden, read_goldens
from service.repository.layouts.exports import is_export
from service.repository.layouts.inference import describe
from service.repository.manifest import (
    DEFAULT_TOLERANCE,
    MANIFEST_NAME,
    PRECISIONS,
    Manifest,
    Precision,
)
from service.repository.paths import MODEL_NAME, VERSION_NAME, file_inside
from service.repository.soundness import refuse_unsound
from service.repository.spelling import did_you_mean

_ITSELF = 1
"""The version of a model whose folder holds no versions, but is one."""


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
    """Reads `<root>/<model>/<version>/`. Hidden files are not looked at."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"<ModelRepository {self._root}>"

    def models(self) -> list[str]:
        """Return the names that have at least one version, in alphabetical order.

        Raises:
            ModelLoadError: the repository itself is not a folder.
        """
        return [name for name in self._names() if self._numbers(name)]

    def versions(self, model: str) -> list[int]:
        """Return the versions of a model, ascending. They may still turn out to be broken.

        Raises:
            ModelNotFoundError: there is no model of this name; a near one is suggested.
        """
        # A caller's name is looked up, never made into a path: what is not listed is not there.
        if model not in (known := self.models()):
            raise ModelNotFoundError(f"there is no model {model!r}{did_you_mean(model, known)}")
        return self._numbers(model)

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
        versions = self.versions(model)
        number = versions[-1] if version is None else version
        if number not in versions:
            raise ModelNotFoundError(
                f"model {model} has no version {number}, only {', '.join(map(str, versions))}"
            )
        return self._open(model, number, precision, device_kind)

    def survey(
        self, precision: str | None = None, device_kind: str = "cpu"
    ) -> Sequence[VersionFiles | Unusable]:
        """Return every version, readable or not, and every folder that should not be there.

        Raises:
            ModelLoadError: the repository itself is not a folder.
        """
        return list(self._survey(precision, device_kind))

    def _survey(self, precision: str | None, device_kind: str) -> Iterator[VersionFiles | Unusable]:
        for path in self._folders(self._root):
            if not MODEL_NAME.fullmatch(path.name):
                yield Unusable(path.name, None, "this cannot be a model's name")
            elif not self._is_inside(path):
                yield Unusable(path.name, None, "it is a link out of the repository")
            elif not (versions := self._numbers(path.name)):
                yield Unusable(
                    path.name,
                    None,
                    "it has no version, a folder named 1, 2, ..., and is no export directory",
                )
            else:
                for version in versions:
                    try:
                        yield self._open(path.name, version, precision, device_kind)
                    except ModelLoadError as error:
                        yield Unusable(path.name, version, str(error))

    def _open(
        self, model: str, version: int, precision: str | None, device_kind: str
    ) -> VersionFiles:
        folder = self._folder(model, version)
        where = f"{model}/{version}"
        try:
            self._refuse_links_out(folder, where)
            described = describe(folder, self._root, where)
            manifest = described.manifest
            chosen = _choose_precision(manifest, precision, device_kind, where)
            files = self._answering_files(manifest, chosen, folder, where)
            digest = version_digest(manifest, chosen, folder, files)
            size = sum(path.stat().st_size for path in files)
        except OSError as error:
            name = Path(str(error.filename)).name
            raise ModelLoadError(f"{where}: {name} cannot be read: {error.strerror}") from None
        return VersionFiles(
            model,
            version,
            folder,
            manifest,
            chosen,
            {session: folder / name for session, name in manifest.graphs[chosen].items()},
            digest,
            size,
            read_goldens(folder, manifest.task, self._root),
            described.sources,
        )

    def _answering_files(
        self, manifest: Manifest, chosen: Precision, folder: Path, where: str
    ) -> list[Path]:
        graphs: dict[Precision, list[Path]] = {}
        for precision, named in manifest.graphs.items():
            graphs[precision] = []
            for name in named.values():
                path = file_inside(name, folder, self._root, f"{where}/{MANIFEST_NAME}")
                graphs[precision] += [path, *external_files(path, folder, where)]
                refuse_unsound(path, where)
        others = [path for paths in graphs.values() for path in paths]
        return answering_files(folder, graphs[chosen], others)

    def _refuse_links_out(self, folder: Path, where: str) -> None:
        """So that whoever reads a file of the version later need not look where links lead."""
        for path in folder.rglob("*"):
            if path.is_symlink() and not self._is_inside(path):
                name = path.relative_to(folder).as_posix()
                raise ModelLoadError(
                    f"{where}: {name} is a link out of the repository: copy the file there"
                )

    def _names(self) -> list[str]:
        return [
            path.name
            for path in self._folders(self._root)
            if MODEL_NAME.fullmatch(path.name) and self._is_inside(path)
        ]

    def _numbers(self, model: str) -> list[int]:
        numbers = sorted(
            int(path.name)
            for path in self._folders(self._root / model)
            if VERSION_NAME.fullmatch(path.name) and self._is_inside(path)
        )
        return numbers or ([_ITSELF] if is_export(self._root / model) else [])

    def _folder(self, model: str, version: int) -> Path:
        numbered = self._root / model / str(version)
        return self._root / model if version == _ITSELF and not numbered.is_dir() else numbered

    def _folders(self, parent: Path) -> list[Path]:
        try:
            found = sorted(parent.iterdir())
        except OSError as error:
            raise ModelLoadError(
                f"{parent.name} is not a folder that can be read: {error.strerror}"
            ) from None
        return [path for path in found if path.is_dir() and not path.name.startswith(".")]

    def _is_inside(self, path: Path) -> bool:
        # Unlike Path.resolve, realpath has no objection to links in a circle.
        real = Path(os.path.realpath(path))
        return real.is_relative_to(os.path.realpath(self._root))


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
