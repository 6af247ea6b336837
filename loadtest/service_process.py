"""A service of its own for a run: a process on a free port of the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_ADDRESS = "127.0.0.1"
_ROOT = Path(__file__).parents[1]
_READY_SECONDS = 120.0
_STOP_SECONDS = 40.0
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Running:
    """A service that was started here and is ready."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://{_ADDRESS}:{self.port}"

    def end(self) -> int:
        """Stop it, by force if it takes too long; return its exit status."""
        return end(self.process, _STOP_SECONDS)


def started(environment: Mapping[str, str], log: Path) -> Running:
    """Start the service on a free port and return it when it is ready.

    It is started in a session of its own, so that Ctrl-C reaches the load first and the service
    when no request is left.

    Raises:
        RuntimeError: it ended, or was not ready in two minutes.
    """
    port = free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--server.port", str(port)],
            cwd=_ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, log)
    except BaseException:
        end(process, _STOP_SECONDS)
        raise
    return Running(process, port)


@contextmanager
def serving(settings: Mapping[str, str], log: Path) -> Iterator[str]:
    """Start the service, yield its URL when it is ready, and stop it in the end.

    The environment overrides `settings`.

    Raises:
        RuntimeError: it ended, or was not ready in two minutes.
    """
    running = started({**settings, **os.environ}, log)
    try:
        yield running.url
    finally:
        running.end()


def end(process: "subprocess.Popen[bytes]", patience: float) -> int:
    """Ask a process to end, and end it if it does not; return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    patience = time.monotonic() + _READY_SECONDS
    said = ""
    while process.poll() is None and time.monotonic() < patience:
        connection = HTTPConnection(_ADDRESS, port, timeout=1)
        try:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            if response.status == HTTPStatus.OK:
                return
            said = response.read().decode(errors="replace")  # which models, and why
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(_POLL_SECONDS)
    if process.poll() is not None or not said:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"the service did not become ready:\n{said}")
