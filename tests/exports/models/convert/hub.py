"""A small server that speaks the file protocol of a Hugging Face hub, on loopback."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one model. `asked` has method, path and authorisation of every request."""

    daemon_threads = True

    def __init__(self, name: str, folder: Path, token: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.folder, self.token = name, folder, token
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        found = None
        allowed = self.server.token is None or (
            self.headers.get("Authorization") == f"Bearer {self.server.token}"
        )
        if allowed and path.startswith(f"/api/models/{self.server.name}/tree/"):
            found = json.dumps([_entry(f) for f in sorted(self.server.folder.iterdir())]).encode()
        elif allowed and path.startswith(f"/api/models/{self.server.name}"):
            files = [{"rfilename": f.name} for f in sorted(self.server.folder.iterdir())]
            info = {"id": self.server.name, "sha": COMMIT, "siblings": files}
            found = json.dumps(info).encode()
        elif allowed and path.startswith(f"/{self.server.name}/resolve/"):
            file = self.server.folder / path.rpartition("/")[2]
            found = file.read_bytes() if file.is_file() else None
        self._send(found, with_body)

    def _send(self, found: bytes | None, with_body: bool) -> None:
        self.send_response(200 if found is not None else 404)
        if found is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        body = found or b""
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _entry(file: Path) -> dict[str, object]:
    """Describe a file as the hub's list of a revision's files does."""
    content = file.read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": file.name, "size": len(content), "oid": oid}


@contextmanager
def hub(name: str, folder: Path, token: str | None = None) -> Iterator[Hub]:
    """Serve a folder as a model of this name until the block ends."""
    with Hub(name, folder, token) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)
