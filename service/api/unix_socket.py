"""A listening Unix socket: a file that other programs of the machine connect to."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK

from service.api.listening import AddressError

_LIVE_SECONDS = 1.0
"""Time for a listener to accept a connection. One whose backlog is full lives too."""


class UnixListener(socket.socket):
    """Listens on a path from the beginning: connections wait until they are accepted."""

    def __init__(self, path: Path, mode: int) -> None:
        """Make the socket. One that no process listens on is replaced.

        Args:
            path: of the socket; its folder must exist.
            mode: permissions of the file; a client needs the one to write.

        Raises:
            AddressError: another process listens there, the file is no socket, or the system
                refuses it.
        """
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = path
        try:
            _remove_stale(path)
            self.bind(str(path))
            path.chmod(mode)  # before `listen`, until which nothing can connect
            self.listen()
            self._inode = path.lstat().st_ino
        except (OSError, AddressError) as error:
            self.close()
            system = getattr(error, "strerror", None)
            reason = system.lower() if system else str(error)
            raise AddressError(f"cannot listen on {path}: {reason}") from None

    def remove_file(self) -> None:
        """Let no new connection begin. Another socket that has taken the path stays."""
        with suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()


def remove_socket_files(listeners: Iterable[socket.socket]) -> None:
    """Let no new connection over a Unix socket begin."""
    for listener in listeners:
        if isinstance(listener, UnixListener):
            listener.remove_file()


def _remove_stale(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not S_ISSOCK(status.st_mode):
        raise AddressError("the file is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_LIVE_SECONDS)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except (TimeoutError, BlockingIOError):
            pass
    raise AddressError("another process listens on it")
