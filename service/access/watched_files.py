"""Files that are read again when they change."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

LOOK_SECONDS = 0.5
"""Time between two looks at the files."""

_Stamp: TypeAlias = tuple[int, int, int]

_log = logging.getLogger(__name__)


class WatchedFiles:
    """Notices when one of some files has changed. The state at construction counts as read."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._read = self._seen = self._stamps()

    async def have_changed(self) -> bool:
        """Return whether a file has changed, and none has since the last call.

        An editor may write a file in parts, and the first part may be valid. The change is then
        reported by a later call, once.
        """
        stamps = await asyncio.to_thread(self._stamps)
        was, self._seen = self._seen, stamps
        if stamps == self._read or stamps != was:
            return False
        self._read = stamps
        return True

    async def watch(self, look: Callable[[], Awaitable[None]], pause: float) -> None:
        """Await `look` every `pause` seconds until cancelled."""
        while True:
            await asyncio.sleep(pause)
            try:
                await look()
            except Exception:  # a bug there must not end the watch
                _log.exception("files could not be looked at", extra={"files": self._files})

    def _stamps(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp_of(file) for file in self._files)


def _stamp_of(file: Path) -> _Stamp | None:
    """Return what changes when the file does; None if it is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
