"""Models in object stores, on web servers and in folders, by `fsspec`."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from service.errors import ModelLoadError
from service.repository.pull.reference import Reference
from service.repository.pull.source import (
    OF_DISK,
    TRANSIENT_STATUSES,
    RemoteFile,
    Snapshot,
    TransientError,
    retry_after,
)

PARTIAL = ".part"
_EXTRAS: Mapping[str, str] = {"s3": "s3", "gs": "gcs"}
_DEEPEST = 4
"""Folders below the model's: versions, and `onnx/` or those of modules.json in them."""
_MOST_FILES = 10_000
_BLOCK = 4 * 1024 * 1024
_WEB = ("http", "https")
_CONNECT_SECONDS, _READ_SECONDS = 30, 60
_REFUSED = (401, 403)
_MARKS = ("ETag", "etag", "md5Hash", "LastModified", "mtime")
"""By which file systems tell that a content has changed; the first that is there."""


@dataclass(frozen=True, slots=True)
class FileSystemSource:
    """One folder of a file system that fsspec knows."""

    reference: Reference

    def snapshot(self) -> Snapshot:
        """Return the files below the folder."""
        with self._translated():
            system, root = self._opened()
            found = system.find(root, maxdepth=_DEEPEST, detail=True)
            if len(found) > _MOST_FILES:
                raise ModelLoadError(f"{self.reference} holds more than {_MOST_FILES} files")
            files, marks = {}, []
            for path, facts in sorted(found.items()):
                name = unquote(path[len(root) :].lstrip("/")) if self._is_web else path[len(root) :]
                name = name.lstrip("/")
                if not name:
                    continue
                files[name] = RemoteFile(name, facts.get("size"), path=path)
                mark = next((facts[key] for key in _MARKS if facts.get(key)), "")
                marks.append(f"{name}\0{facts.get('size')}\0{mark}\n")
        if not files:
            raise ModelLoadError(f"there is no {self.reference}, or it holds no files")
        digest = hashlib.blake2b("".join(marks).encode(), digest_size=20).hexdigest()
        return Snapshot(digest, files)

    def fetch(self, file: RemoteFile, revision: str, folder: Path) -> None:
        """Write a file; what an interrupted call has written is in a file ending in `.part`."""
        target = folder / file.name
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + PARTIAL)
        with self._translated():
            system, _ = self._opened()
            size = file.size
            if size is None and self._is_web:
                size = system.info(file.path).get("size")
            try:
                _copy(system, file.path, partial, partial.stat().st_size if partial.exists() else 0)
            except ValueError:  # a web server without ranges
                with partial.open("wb"):
                    pass
                _copy(system, file.path, partial, 0, block_size=0)
        written = partial.stat().st_size
        if size is not None and written != size:
            if written > size:
                partial.unlink()
            raise TransientError(f"{file.name} was cut short: {written} of {size} bytes")
        partial.rename(target)

    @property
    def _is_web(self) -> bool:
        return self.reference.scheme in _WEB

    def _opened(self) -> tuple[Any, str]:
        """Return the file system, and the path of the model's folder in it."""
        import fsspec  # noqa: PLC0415 - an extra

        options: dict[str, Any] = {}
        if self._is_web:
            from aiohttp import ClientTimeout  # noqa: PLC0415 - an extra

            timeout = ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
            )
            options["client_kwargs"] = {"timeout": timeout}
        system, root = fsspec.core.url_to_fs(self.reference.location, **options)
        return system, str(root).rstrip("/")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of file systems into sentences without URLs, which may hold secrets."""
        try:
            yield
        except ImportError:
            extra = _EXTRAS.get(self.reference.scheme, "hub")
            raise ModelLoadError(
                f"{self.reference.source} needs a package that is not installed; it comes with the "
                f"extra {extra}: pip install 'quartet[{extra}]'"
            ) from None
        except (ModelLoadError, ValueError):
            raise
        except Exception as error:
            raise self._meaning(error) from None

    def _meaning(self, error: Exception) -> Exception:
        answered = next((one for one in _chain(error) if hasattr(one, "status")), None)
        if answered is not None and answered.status in TRANSIENT_STATUSES:
            headers: Mapping[str, str] = getattr(answered, "headers", None) or {}
            wait = retry_after(headers.get("Retry-After"))
            return TransientError(f"the server answers {answered.status}", wait)
        is_refused = answered is not None and answered.status in _REFUSED
        if is_refused or isinstance(error, PermissionError) or "Credentials" in repr(type(error)):
            return ModelLoadError(f"{self.reference}: access is refused ({_shown(error)})")
        if isinstance(error, FileNotFoundError):
            return ModelLoadError(f"there is no {self.reference}")
        if isinstance(error, OSError) and error.errno in OF_DISK:
            return error
        return TransientError(f"it cannot be read ({_shown(error)})")


def _shown(error: Exception) -> str:
    """Return what an error is, without its text, which may quote a URL."""
    status = next((one.status for one in _chain(error) if hasattr(one, "status")), None)
    return type(error).__name__ if status is None else str(status)


def _copy(system: Any, path: str, partial: Path, offset: int, **options: Any) -> None:
    """Append what follows the offset to a file. Raises ValueError if the server cannot seek."""
    with system.open(path, "rb", **options) as remote, partial.open("ab") as local:
        if offset:
            remote.seek(offset)
        while block := remote.read(_BLOCK):
            local.write(block)


def _chain(error: BaseException) -> Iterator[Any]:
    known: BaseException | None = error
    while known is not None:
        yield known
        known = known.__cause__ or known.__context__
