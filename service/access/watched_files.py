"""Files that are read again when they change."""

import asyncio
import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Generic, TypeAlias, TypeVar

from prometheus_client import Gauge

LOOK_SECONDS = 0.5
"""Time between two looks at the files."""

ContentT = TypeVar("ContentT")
_Stamp: TypeAlias = tuple[int, int, int]

_log = logging.getLogger(__name__)


class WatchedFiles(ABC, Generic[ContentT]):
    """What some files hold. While they are not valid, what was read before stays in use."""

    name: ClassVar[str]
    """What the log calls the files."""
    broken: ClassVar[Gauge]
    """1 while the files are not valid."""

    def __init__(self, *files: Path) -> None:
        """Read the files. Raises ValueError: they are not valid."""
        self.files = files
        self._read = self._seen = self._stamps()
        self.use(self.read())
        self.broken.set(0)

    @abstractmethod
    def read(self) -> ContentT:
        """Return what the files hold; called on a thread. Raises ValueError: they are not valid."""

    @abstractmethod
    def use(self, content: ContentT) -> None:
        """Replace what was read before."""

    async def watch(self, pause: float = LOOK_SECONDS) -> None:
        """Read the files again whenever one has changed. Runs until cancelled."""
        while True:
            await asyncio.sleep(pause)
            try:
                await self.look()
            except Exception:  # a bug there must not end the watch
                _log.exception("files could not be looked at", extra={"files": self.files})

    async def look(self) -> None:
        """Read the files if one has changed, and none has since the last look.

        An editor may write a file in parts, and the first part may be valid.
        """
        stamps = await asyncio.to_thread(self._stamps)
        was, self._seen = self._seen, stamps
        if stamps == self._read or stamps != was:
            return
        self._read = stamps
        try:
            self.use(await asyncio.to_thread(self.read))
        except ValueError as error:
            self.broken.set(1)
            _log.error("%s cannot be used, the previous one stays in use: %s", self.name, error)
        else:
            self.broken.set(0)
            _log.info("%s read", self.name, extra={"files": [str(file) for file in self.files]})

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp_of(file) for file in self.files)


def _stamp_of(file: Path) -> _Stamp | None:
    """Return what changes when the file does; None if it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
