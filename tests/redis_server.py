"""A real Redis for tests: started on a free loopback port, and mistreated on demand."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_SECONDS = 10.0


class RedisServer:
    """One redis-server process that keeps nothing on disk. Only what it started is ever ended."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._command = [program, "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._command += ["--bind", "127.0.0.1", *options]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it talks."""
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)], stdout=subprocess.DEVNULL
        )
        patience = time.monotonic() + _START_SECONDS
        while not self._talks():
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < patience, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it without a word to its clients but the closed connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """Let it keep its connections and accept new ones, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, beginning with what was sent to it meanwhile."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _talks(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_program() -> str:
    """Return the path of redis-server; without one, skip, or fail in CI."""
    if program := shutil.which("redis-server"):
        return program
    if os.environ.get("CI"):
        pytest.fail("redis-server is not installed, and CI must not skip its tests")
    pytest.skip("redis-server is not installed")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield an empty Redis of this test's own."""
    server = RedisServer(redis_program(), tmp_path)
    yield server
    server.kill()
