"""Which folders of a repository are models and versions, and why others are not."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import ModelLoadError, ModelNotFoundError
from service.repository.layouts.exports import is_export
from service.repository.paths import MODEL_NAME, VERSION_NAME, other_format_of
from service.repository.tables import did_you_mean
from service.repository.workflows import FOLDER, Workflow, read_workflows


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


_PREFIX = "models--"
_SNAPSHOTS = "snapshots"
_MAIN = Path("refs", "main")


def is_cached_model(folder: Path) -> bool:
    """Tell whether a folder is the cache of one model of the hub."""
    return folder.name.startswith(_PREFIX) and (folder / _SNAPSHOTS).is_dir()


def snapshot_of(folder: Path) -> Path | None:
    """Return the snapshot of a cached model: that of `refs/main`, else the only one.

    Raises:
        OSError: the folder cannot be read.
    """
    snapshots = folder / _SNAPSHOTS
    if (folder / _MAIN).is_file():
        revision = (folder / _MAIN).read_text(encoding="ascii", errors="replace").strip()
        # The name is read from a file: it must not lead to another folder.
        if MODEL_NAME.fullmatch(revision) and (snapshots / revision).is_dir():
            return snapshots / revision
    found = [path for path in snapshots.iterdir() if path.is_dir()]
    return found[0] if len(found) == 1 else None


def boundary(folder: Path) -> Path:
    """Return what no link of a folder may lead out of.

    It is the folder itself, or the cached model that it is in: its files are links into `blobs`.
    """
    real = Path(os.path.realpath(folder))
    return next((path for path in (real, *real.parents) if is_cached_model(path)), folder)


_ITSELF = 1
"""The version of a model whose folder holds no versions, but is one."""

_PASSED_OVER = frozenset(
    {
        "lost+found",
        "__MACOSX",
        "__pycache__",
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
    }
)
"""Folders that file systems and tools make; hidden ones are passed over too."""

_MOST_UNUSABLE = 100
"""Unusable folders that are kept with their reason. A repository of more is no repository."""

_MOST_SUGGESTED = 1000
"""With more names than this, no near one is looked for: it would take a second."""

_NO_VERSION = "it has no version, a folder named 1, 2, ..., and is no export directory"


@dataclass(frozen=True, slots=True)
class Contents:
    """The folders of a repository, at the moment of reading."""

    models: tuple[str, ...]
    """Those that have at least one version, by name."""
    unusable: Mapping[str, str]
    """Why, for each folder that looks like a model and is not one; at most 100."""
    workflows: Mapping[str, Workflow | str] = field(default_factory=dict)
    """By name, each workflow or why it is none; at most 100."""


class ModelFolders:
    """The folders of `<root>/<model>/<version>/`. Keeps nothing between calls.

    A model may also have a folder elsewhere, which is named; it hides one of its name in the root.
    """

    def __init__(self, root: Path, named: Mapping[str, Path] | None = None) -> None:
        self.root = root
        self._named = dict(named or {})
        self._has_root = not is_cached_model(root)
        if not self._has_root:
            self._named = {root.name: root, **self._named}

    def path(self, model: str) -> Path:
        """Return the folder of a model."""
        return self._named.get(model, self.root / model)

    def boundary(self, model: str) -> Path:
        """Return what no link of a model may lead out of."""
        if model in self._named:
            return boundary(self._named[model])
        return boundary(self.root)

    def contents(self) -> Contents:
        """Return the models, and the folders that cannot be one.

        Raises:
            ModelLoadError: the root is not a folder that can be read.
        """
        models: list[str] = []
        unusable: dict[str, str] = {}
        for name in self._entries():
            reason = self._problem(name)
            if reason is None:
                models.append(name)
            elif len(unusable) < _MOST_UNUSABLE:
                unusable[printable(name)] = reason
        workflows = read_workflows(self.root) if self._has_root else {}
        return Contents(tuple(models), unusable, workflows)

    def versions(self, model: str) -> list[int]:
        """Return the versions of a model, ascending. They may still turn out to be broken.

        Raises:
            ModelNotFoundError: there is no folder of this name; a near one is suggested.
            ModelLoadError: the folder cannot be a model, or the root cannot be read.
        """
        # A caller's name is looked up, never made into a path: what is not listed is not there.
        entries = frozenset(self._entries())
        if model not in entries:
            known = entries if len(entries) <= _MOST_SUGGESTED else ()
            raise ModelNotFoundError(f"there is no model {model!r}{did_you_mean(model, known)}")
        reason = self._problem(model)
        with suppress(OSError):  # the folder has just been removed
            fence = os.path.realpath(self.boundary(model))
            if reason is None and (numbers := _numbers(self.path(model), fence)):
                return numbers
        raise ModelLoadError(f"{printable(model)}: {reason or _NO_VERSION}")

    def folder(self, model: str, version: int) -> Path:
        """Return the folder of a version."""
        whole = self.path(model)
        numbered = whole / str(version)
        if version != _ITSELF or numbered.is_dir():
            return numbered
        return (snapshot_of(whole) if is_cached_model(whole) else None) or whole

    def _entries(self) -> Iterator[str]:
        """Yield what may be meant as a model, by name: folders, and links that lead nowhere."""
        yield from sorted({*self._named, *self._in_root()})

    def _in_root(self) -> Iterator[str]:
        if not self._has_root or (self._named and not self.root.exists()):
            return
        try:
            with os.scandir(self.root) as found:
                entries = list(found)
        except OSError as error:
            raise ModelLoadError(
                f"{self.root.name} is not a folder that can be read: {error.strerror}"
            ) from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _PASSED_OVER:
                continue
            if entry.name == FOLDER and any(Path(entry.path).glob("*.toml")):
                continue
            if _is_folder(entry) or _is_broken(entry):
                yield entry.name

    def _problem(self, model: str) -> str | None:
        """Return why a folder is no model; None if it has a version."""
        if not MODEL_NAME.fullmatch(model):
            return "this cannot be a model's name"
        path, fence = self.path(model), os.path.realpath(self.boundary(model))
        try:
            if model in self._named and not path.is_dir():
                return f"there is no folder {printable(str(path))}"
            if model not in self._named and path.is_symlink() and (why := _bad_link(path, fence)):
                return why
            if _numbers(path, fence):
                return None
            return _without_version(path, fence)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"


def printable(text: str) -> str:
    """Return a text that can be written as UTF-8; what else a file's name may hold is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_inside(path: Path, fence: str) -> bool:
    """Tell whether a path is inside a real one, after following its links."""
    # Unlike Path.resolve, realpath has no objection to links in a circle.
    return Path(os.path.realpath(path)).is_relative_to(fence)


def _numbers(path: Path, fence: str) -> list[int]:
    """Return the versions in a model's folder. Raises OSError."""
    with os.scandir(path) as entries:
        numbers = sorted(
            int(entry.name)
            for entry in entries
            if VERSION_NAME.fullmatch(entry.name)
            and _is_folder(entry)
            and (not entry.is_symlink() or is_inside(path / entry.name, fence))
        )
    if numbers:
        return numbers
    is_version = is_export(path) or (is_cached_model(path) and snapshot_of(path) is not None)
    return [_ITSELF] if is_version else []


def _without_version(path: Path, fence: str) -> str:
    names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
    for name in names:
        if VERSION_NAME.fullmatch(name) and (reason := _bad_link(path / name, fence)):
            return f"its version {name}: {reason}"
    if is_cached_model(path):
        return "it has several snapshots, and refs/main names none of them"
    other = other_format_of([printable(name) for name in names])
    return _NO_VERSION if other is None else f"it has no ONNX graph; {other}"


def _bad_link(path: Path, fence: str) -> str | None:
    if not path.exists():
        return "it is a link that leads nowhere"
    return None if is_inside(path, fence) else "it is a link out of the repository"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _is_broken(entry: "os.DirEntry[str]") -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()
