"""A relay to one RTSP server, because FFmpeg would follow its redirects to any host."""

import re
import selectors
import socket
import threading
from contextlib import suppress
from urllib.parse import quote

from service.errors import InvalidInputError
from service.live.address import Address

_CHUNK = 64 * 1024
_ACCEPT_SECONDS = 5.0

# FFmpeg reads the first number after the first word, and skips spaces and zeros.
_REDIRECT = re.compile(rb"RTSP/\S*\s+[+0]*3\d\d")
_LONGEST_MATCH = 64

_PLAY = b"PLAY "
"""FFmpeg follows redirects until it sends this."""


class RtspRelay:
    """Listens on a port of its own, and passes on the bytes of one connection to the server."""

    has_own_pace = True
    problem: str | None = None

    def __init__(self, address: Address, connect_seconds: float, read_seconds: float) -> None:
        self._address = address
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def open(self) -> str:
        """Connect to the server; return the address of the relay. Raises InvalidInputError."""
        address = self._address
        try:
            server = socket.create_connection(
                (address.host, address.port or 0), self._connect_seconds
            )
            self._keep(server)
            listener = socket.create_server(("127.0.0.1", 0), backlog=1)
            self._keep(listener)
            listener.settimeout(_ACCEPT_SECONDS)
        except OSError as error:
            self.close()
            reason = error.strerror or "it does not answer"
            raise InvalidInputError(f"the source cannot be reached: {reason}") from None
        thread = threading.Thread(
            target=self._relay, args=(listener, server), name="rtsp", daemon=True
        )
        thread.start()
        user = "" if address.user is None else quote(address.user, "")
        if address.password is not None:
            user += ":" + quote(address.password, "")
        query = f"?{address.query}" if address.query else ""
        port = listener.getsockname()[1]
        return f"rtsp://{user}{'@' if user else ''}127.0.0.1:{port}{address.path}{query}"

    def close(self) -> None:
        """Disconnect; the thread of the relay ends. May be called from any thread."""
        with self._lock:
            self._is_closed = True
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Do the same: the thread of the relay frees everything."""
        self.close()

    def _keep(self, each: socket.socket) -> None:
        with self._lock:
            self._sockets.append(each)
        if self._is_closed:
            self.close()

    def _relay(self, listener: socket.socket, server: socket.socket) -> None:
        try:
            client, _ = listener.accept()
            listener.close()
            self._keep(client)
            self._pass_on(client, server)
        except OSError as error:
            if not self._is_closed:
                self.problem = f"the source is lost: {error.strerror or 'it sends nothing'}"
        finally:
            self.close()
            for each in self._sockets:
                each.close()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        """Copy in both directions until one side ends, or the server redirects."""
        client.settimeout(self._read_seconds)
        server.settimeout(self._read_seconds)
        plays, recent = False, b""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._read_seconds)}
                if not ready:
                    raise TimeoutError
                if client in ready:
                    if not (data := client.recv(_CHUNK)):
                        return
                    plays = plays or data.startswith(_PLAY)
                    server.sendall(data)
                if server in ready:
                    if not (data := server.recv(_CHUNK)):
                        return
                    if not plays and _REDIRECT.search(recent := recent[-_LONGEST_MATCH:] + data):
                        self.problem = "the source redirects to another address"
                        return
                    client.sendall(data)
