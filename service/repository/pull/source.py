"""What the sources of models have in common: a snapshot of files, and fetching one of them."""

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from service.errors import ModelLoadError

_ATTEMPTS = 6
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
"""Seconds; a server that asks for a longer pause is not waited for."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Of HTTP: what may succeed later."""

OF_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
)
"""Numbers of OSError by which a disk, and not a network, fails."""

T = TypeVar("T")


class UnreachableError(ModelLoadError):
    """A source cannot be reached, or fails for a while."""


class TransientError(Exception):
    """A failure that may not happen again.

    `wait` is the number of seconds that the server asks for; None leaves it to the client.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a source."""

    name: str
    """Relative to the model's folder, with "/"."""
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None
    """SHA-1 of the content as a git blob."""
    path: str = ""
    """What the source calls it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a model at one moment."""

    revision: str
    """Changes whenever a file does."""
    files: Mapping[str, RemoteFile]


class Source(Protocol):
    """A place of models."""

    def snapshot(self) -> Snapshot:
        """Return the files that are there now. Raises ModelLoadError, TransientError."""
        ...

    def fetch(self, file: RemoteFile, revision: str, folder: Path) -> None:
        """Write a file below a folder, going on where an earlier call was interrupted.

        Raises:
            ModelLoadError: it cannot be had.
            TransientError: it may be had later.
            OSError: the folder cannot be written.
        """
        ...


def patiently(
    attempt: Callable[[], T], what: str, sleep: Callable[[float], None] | None = None
) -> T:
    """Return the result of an attempt, repeated up to five times after transient failures.

    Args:
        attempt: what to do.
        what: names it in the error.
        sleep: waits a number of seconds; None means `time.sleep`.

    Raises:
        UnreachableError: every attempt failed.
    """
    wait = _FIRST_WAIT
    for left in reversed(range(_ATTEMPTS)):
        try:
            return attempt()
        except TransientError as error:
            asked = wait if error.wait is None else error.wait
            if not left or asked > _LONGEST_WAIT:
                raise UnreachableError(f"{what}: {error}") from None
            (sleep or time.sleep)(asked)
            wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError  # the last attempt returned or raised


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for none, or for a date."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
